"""The intake: from the body of a delivery to events in the spool. When it returns, everything is on the disk.

One thread takes one delivery after the other. A delivery's events are stored all or none, and what the mapping refuses
is kept after them: if the process ends between the two, the tool delivers again, the events count once, and nothing is
kept twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quietcount_producers.composing.composition import Composer
from quietcount_producers.errors import EventRefused
from quietcount_producers.mapping import Mapping as EventMapping
from quietcount_producers.receiving.bodies import records_of, text_of
from quietcount_producers.receiving.refusals import Refusals
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord

__all__ = ["Intake"]


class Intake:
    """Takes the deliveries of one path: `mapping` reads them.

    What `composer` makes of them goes to `spool`, and what either refuses to `refusals`.
    """

    def __init__(self, mapping: EventMapping, composer: Composer, spool: LogWriter, refusals: Refusals) -> None:
        self._mapping = mapping
        self._composer = composer
        self._spool = spool
        self._refusals = refusals

    def take(self, body: bytes) -> None:
        """Store what `body` holds durably. Raises LogError if it cannot be stored, and never for what it holds."""
        stored: list[NewRecord] = []
        refused: list[tuple[Mapping[str, object] | str, str]] = []
        try:
            records = records_of(body, self._mapping.reading.records)
        except EventRefused as problem:
            refused.append((text_of(body), problem.reason))
        else:
            for record in records:
                made = self._made(record)
                if isinstance(made, str):
                    refused.append((record, made))
                else:
                    stored += made
        if stored:
            self._spool.append(CASE_EVENTS, stored)
        if refused:
            self._refusals.keep(refused)

    def _made(self, record: Mapping[str, object]) -> list[NewRecord] | str:
        """Return the events of a record, or why there are none."""
        try:
            return self._composed(record)
        except _Refused as refused:
            return str(refused)
        except Exception as error:
            # A fault of ours. If the tool heard of it, it would send the same again and again.
            return f"a fault in quietcount: {type(error).__name__}"

    def _composed(self, record: Mapping[str, object]) -> list[NewRecord]:
        found = self._mapping.events(record)
        if problems := [each for each in found if isinstance(each, EventRefused)]:
            raise _Refused(problems)
        made: list[NewRecord] = []
        for each in found:
            if isinstance(each, EventRefused):
                continue  # never: either all are refused, or none is
            one = self._composer.composed(each)
            if isinstance(one, list):
                raise _Refused([self._mapping.located(problem) for problem in one])
            made.append(one)
        return made


class _Refused(Exception):
    def __init__(self, problems: Sequence[EventRefused]) -> None:
        super().__init__("; ".join(f"{each.field}: {each.reason}" if each.field else each.reason for each in problems))
