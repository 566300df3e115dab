"""Two years of a desk that does not exist, one event a line: python cases.py > cases.jsonl."""

from __future__ import annotations

import datetime as dt
import json
import random

chance = random.Random(3)
FIRST, BEYOND = dt.date(2024, 1, 1), dt.date(2026, 1, 1)
SECTORS = ["GOVERNMENT", "DEFENCE", "HEALTH", "FINANCE", "INDUSTRY", "OTHER"]
REPRISALS = ["DISMISSAL", "DEMOTION", "HARASSMENT", "LEGAL_THREAT", "OTHER"]


def show(event: str, case: int, day: dt.date, **fields: object) -> None:
    print(json.dumps({"event": event, "case": f"source-{case}", "occurred_on": day.isoformat(), **fields}))


for case in range(600):
    day = FIRST + dt.timedelta(chance.randrange(731))
    sector = chance.choices(SECTORS, [30, 15, 25, 12, 12, 6])[0]
    inside = chance.random() < 0.65
    show("DisclosureReceived", case, day, sector=sector, reported_inside=inside)
    reprisal = day + dt.timedelta(chance.randrange(1, 200))
    if chance.random() < (0.4 if inside else 0.15) and reprisal < BEYOND:
        show("RetaliationReported", case, reprisal, reprisal=chance.choices(REPRISALS, [30, 15, 35, 12, 8])[0])
