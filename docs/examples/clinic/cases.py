"""Two years of a clinic that does not exist, one event a line: python cases.py > cases.jsonl."""

from __future__ import annotations

import datetime as dt
import json
import random

chance = random.Random(1)
FIRST = dt.date(2024, 1, 1)

for person in range(3000):
    day = FIRST + dt.timedelta(chance.randrange(731))
    service = chance.choices(["COUNSELLING", "PSYCHIATRY", "SOCIAL_WORK", "OTHER"], [50, 25, 20, 5])[0]
    # Psychiatry has the longer list, and it grew in the second year.
    typical = 35 if service == "PSYCHIATRY" else 14
    waited = min(730, int(chance.expovariate(1 / typical)) + (day.year - 2024) * 5)
    contact = chance.choices(["PHONE", "WALK_IN", "DOCTOR", "ONLINE", "OTHER"], [35, 15, 25, 20, 5])[0]
    case, closed = f"patient-{person}", day + dt.timedelta(chance.randrange(20, 150))
    event = {"event": "AppointmentHeld", "case": case, "occurred_on": day.isoformat()}
    print(json.dumps({**event, "contact": contact, "service": service, "days_waited": waited}))
    if closed < dt.date(2026, 1, 1):
        outcomes = ["TREATED_HERE", "REFERRED_ON", "DECLINED", "LOST_CONTACT", "OTHER"]
        outcome = chance.choices(outcomes, [60, 18, 7, 12, 3])[0]
        event = {"event": "ReferralClosed", "case": case, "occurred_on": closed.isoformat()}
        print(json.dumps({**event, "outcome": outcome}))
