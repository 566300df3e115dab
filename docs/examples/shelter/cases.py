"""Two years of a shelter that does not exist, one event a line: python cases.py > cases.jsonl."""

from __future__ import annotations

import datetime as dt
import json
import random

chance = random.Random(2)
FIRST, BEYOND = dt.date(2024, 1, 1), dt.date(2026, 1, 1)
HOUSEHOLDS = ["ADULT_ALONE", "ADULT_WITH_CHILDREN", "COUPLE", "FAMILY", "MINOR_ALONE", "UNKNOWN"]
DESTINATIONS = ["OWN_HOME", "FAMILY_OR_FRIENDS", "OTHER_SHELTER", "WENT_BACK", "UNKNOWN"]
OBSTACLES = ["NO_SPACE", "TOO_FAR", "NOT_SAFE", "OTHER"]


def show(event: str, case: int, day: dt.date, **fields: object) -> None:
    print(json.dumps({"event": event, "case": f"household-{case}", "occurred_on": day.isoformat(), **fields}))


for case in range(900):
    household = chance.choices(HOUSEHOLDS, [30, 45, 5, 10, 5, 5])[0]
    for _ in range(chance.choices([1, 2, 3], [80, 15, 5])[0]):
        nights = min(730, 1 + int(chance.expovariate(1 / (40 if household == "ADULT_WITH_CHILDREN" else 25))))
        left = FIRST + dt.timedelta(chance.randrange(731))
        destination = chance.choices(DESTINATIONS, [25, 30, 15, 15, 15])[0]
        show("StayEnded", case, left, household=household, destination=destination, nights=nights)
for case in range(5000, 6400):
    household = chance.choices(HOUSEHOLDS, [35, 40, 5, 10, 5, 5])[0]
    day = FIRST + dt.timedelta(chance.randrange(731))
    for _ in range(chance.choices([1, 2, 4], [60, 30, 10])[0]):  # many ask again some days later
        obstacle = chance.choices(OBSTACLES, [70, 10, 12, 8])[0]
        if day < BEYOND:
            show("RequestUnmet", case, day, household=household, obstacle=obstacle)
        day += dt.timedelta(chance.randrange(1, 30))
