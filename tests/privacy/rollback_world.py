"""A project whose files are copied and put back at random moments, and a person who does what each refusal names.

Copies and witnesses outside of the machine, if there are any, are in `elsewhere`: nothing puts them back.

Everything that was ever published is kept, and so is every published file. What is drawn carries the number of its draw
above its count, so that a second draw of a cell never looks like the first, and what was counted can be read from it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from tests.aggregates_world import case_key, event_id, record_of, utc
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Project
from tests.privacy.elsewhere import ELSEWHERE, Elsewhere

from quietcount_aggregates.errors import AggregatesError
from quietcount_aggregates.ledger.entries import Entry, Head, StateLost
from quietcount_aggregates.publication.publication import published_head
from quietcount_aggregates.release import Step
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import WitnessesAway
from quietcount_consumers.maintenance.losses import Lost, record_state_loss
from quietcount_consumers.maintenance.recovery import follow_new_log, restore_ledger
from quietcount_consumers.maintenance.signing import renew_key
from quietcount_consumers.maintenance.state_facts import state_of
from quietcount_consumers.opening import open_service
from quietcount_consumers.wiring import open_ledger, open_log, witness_of
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, NewRecord

__all__ = ["EVERY_KNOWER", "ON_THE_MACHINE", "PARTS", "Copy", "Crash", "Life", "drawn_twice"]

CONFIGURATION = catalogue(
    statistic("requests", "HelpRequested"), statistic("yearly", "HelpRequested", horizon="year"), grace="1d"
)
PARTS = {
    "ledger": "data/private/store/ledger.sqlite*",
    "state": "data/private/store/state-*",
    "log": "data/private/store/log.sqlite*",
    "public": "data/statistics.duckdb*",
    "signed": "data/statistics.head",
    "collected": "data/private/store/statistics.head",
    "witness": "secrets/service-head",
    "secret": "secrets/service",
    "years": "secrets/service-years/0/*",
    "signing": "secrets/service-signing",
    "pepper": "secrets/pepper",
}
"""What there is to put back, by name: the files in the project's folder."""

ON_THE_MACHINE = ("ledger", "state", "public", "witness")
EVERY_KNOWER = (*ON_THE_MACHINE, *ELSEWHERE)
"""All that may know how far the ledger went. If each of them is older than what was published, nothing else knows.

What is elsewhere knows only if the configuration names it.
"""

_STAMP = 1_000

Cell = tuple[str, str]
"""The table, and the first day of the period: each table has one cell a period."""

Known = frozenset[bytes]
"""The digests of heads."""


class Crash(BaseException):
    """The process ends here."""


class Stamped:
    """Adds no noise, but the number of the draw, in thousands: for these trials, never for the service."""

    name = "test.stamped"

    def __init__(self) -> None:
        self.draws = 0

    def scale(self, *, cells: int, sensitivity: int, epsilon: float) -> float:
        assert cells == 1
        return sensitivity / epsilon

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        self.draws += 1
        return [value + _STAMP * self.draws for value in exact]


@dataclass(frozen=True)
class Copy:
    """A copy of every part, as the files lay at one moment."""

    folder: Path
    moment: str


@dataclass
class Life:
    """One project from its first day on. `chance` decides what befalls it; `story` tells what did."""

    folder: Path
    chance: random.Random
    name: str = ""
    today: dt.date = dt.date(2023, 1, 1)
    copies: list[Copy] = field(default_factory=list)
    published: dict[Cell, set[int]] = field(default_factory=dict)
    """Every value that was ever published of a cell."""
    losses: int = 0
    """How many a ledger ever recorded."""
    archive: list[Path] = field(default_factory=list)
    """A copy of each published file, in the order in which they came out."""
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.project = Project(self.folder / "project", CONFIGURATION)
        self.mechanism = Stamped()
        (self.folder / "elsewhere").mkdir()
        self.elsewhere = Elsewhere(self.project, self.folder / "elsewhere", self.chance)
        registry = self.configuration.registry()
        self._codec = Codec(registry)
        self._symbols = {each.name: each.symbols[0] for each in registry.event_types["HelpRequested"].attributes}
        self._people = 0
        self._events = 0
        self._numbers = 0
        self._seen: dict[bytes, Known] = {}
        """By the digest of a head: it, and those before it."""
        self._published: set[bytes] = set()
        """The heads of all that was ever published."""
        self._heads: dict[tuple[int, int, int], Head | None] = {}
        self._newest: dict[str, Copy] = {}
        """By part: the copy that was moved away when an older one was put back."""

    @property
    def configuration(self) -> Configuration:
        """What the file says now: who is asked elsewhere changes."""
        return self.project.configuration

    @property
    def every_knower(self) -> tuple[str, ...]:
        return (*ON_THE_MACHINE, *self.elsewhere.named)

    def close(self) -> None:
        self.elsewhere.close()

    # What happens

    def tell(self, what: str) -> None:
        self.story.append(f"{self.today}: {what}")

    def emit(self, again: int = 4, new: int = 2) -> None:
        """Let cases come that came before, and new ones."""
        cases = [*range(min(again, self._people)), *range(self._people, self._people + new)]
        self._people += new
        records: list[NewRecord] = []
        for case in cases:
            self._events += 1
            event = CaseEvent(
                "HelpRequested",
                case_key(case),
                event_id(self._events),
                0,
                self.today,
                self._symbols,
            )
            records.append(record_of(self._codec, event))
        with contextlib.closing(open_log(self.configuration)) as log:
            log.append(CASE_EVENTS, records)

    def run(self, observe: Callable[[Step], None] | None = None) -> None:
        """Start the service, let it do a tick, and end it; what was published is looked at whatever happens."""
        now = utc(self.today)
        try:
            held = self.chance.random() < 0.3
            with open_service(self.configuration, now, mechanism=self.mechanism, observe=observe, held=held) as service:
                self.collect()
                service.tick(now)
                service.show()
            self._newest.clear()  # what lies there is the newest again
        finally:
            self.learn()
            self.collect()

    def collect(self) -> None:
        """Look at the public file as everybody can, and keep a copy of one that is new."""
        public, head = self.project.public, self._published_head()
        if head is None:
            return
        self._published.add(head.digest)
        kept = self.folder / f"published-{head.length}-{head.digest.hex()[:16]}.duckdb"
        if kept.exists():
            return
        shutil.copyfile(public, kept)
        self.archive.append(kept)
        self.elsewhere.published(kept, head.digest)
        with duckdb.connect(str(kept), read_only=True) as connection:
            rows = connection.execute("SELECT statistic, period_start::VARCHAR, noisy FROM statistics").fetchall()
        for table, start, value in rows:
            self.published.setdefault((table, start), set()).add(value)

    def _published_head(self) -> Head | None:
        """Return what the public file was built from; opening it takes most of a trial's time, so once a file."""
        public = self.project.public
        if not public.exists():
            return None
        facts = public.stat()
        file = facts.st_ino, facts.st_ctime_ns, facts.st_size
        if file not in self._heads:
            self._heads[file] = published_head(public)
        return self._heads[file]

    # Copies

    def files(self, part: str) -> Iterator[Path]:
        """Yield the files of a part that are there."""
        for path in sorted(self.project.folder.glob(PARTS[part])):
            if not path.name.endswith(".lock"):
                yield path

    def copy(self, moment: str) -> Copy:
        """Copy every part as it lies there."""
        self.learn()
        self._numbers += 1
        copy = Copy(self.folder / f"copy-{self._numbers}", moment)
        for part in PARTS:
            (copy.folder / part).mkdir(parents=True)
            for path in self.files(part):
                shutil.copy2(path, copy.folder / part / path.name)
        self.copies.append(copy)
        return copy

    def put_back(self, parts: Mapping[str, Copy | None]) -> None:
        """Put parts back as they lie in a copy, or take them away; what lay there is kept as the newest."""
        newest = self.copy("what lay there")
        self.copies.pop()
        for part, copy in parts.items():
            self._newest.setdefault(part, newest)
            self._replace(part, copy)
        ages = ", ".join(f"{part} ({'gone' if copy is None else copy.moment})" for part, copy in parts.items())
        self.tell(f"put back: {ages}")

    def put_newest_back(self, part: str) -> bool:
        """Put back what was moved away; return whether anything was."""
        copy = self._newest.pop(part, None)
        if copy is not None:
            self._replace(part, copy)
            self.tell(f"the newest {part} is put back")
        return copy is not None

    def put_entries_back(self, copy: Copy) -> None:
        """Put the entries of the ledger back, and leave the private log of places beside them as it is."""
        self.put_back({"ledger": copy})
        with contextlib.closing(sqlite3.connect(self._newest["ledger"].folder / "ledger" / "ledger.sqlite")) as newest:
            places = newest.execute('SELECT * FROM places ORDER BY "index"').fetchall()
        with contextlib.closing(sqlite3.connect(self.project.private / "ledger.sqlite")) as ledger, ledger:
            held = ledger.execute("SELECT count(*) FROM places").fetchone()[0]
            ledger.executemany("INSERT INTO places VALUES (?, ?)", places[held:])

    def _replace(self, part: str, copy: Copy | None) -> None:
        for path in self.files(part):
            path.unlink()  # the new file is another one: a program that has the old one open keeps it
        folder = self.project.folder / Path(PARTS[part]).parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted((copy.folder / part).iterdir()) if copy is not None else []:
            shutil.copy2(path, folder / path.name)

    # Who knows what

    def learn(self) -> None:
        """Remember which heads the ledger that lies there had before each of its own."""
        known: set[bytes] = set()
        for place, data in enumerate(self._entries()):
            try:
                entry = Entry.read(data, place)
            except AggregatesError:
                return
            known.add(entry.digest)
            self._seen[entry.digest] = frozenset(known)
            if isinstance(entry.body, StateLost):
                self.losses = max(self.losses, entry.body.losses)

    def knowers(self) -> dict[str, Known]:
        """Return, for each part that knows how far the ledger went, the heads that it had up to there."""
        self.learn()
        digests: dict[str, bytes] = {}
        for place, data in enumerate(self._entries()):
            digests["ledger"] = Entry.read(data, place).digest
        with contextlib.suppress(QuietcountError):
            if (head := self._published_head()) is not None:
                digests["public"] = head.digest
        with contextlib.suppress(QuietcountError):
            if (facts := state_of(self.configuration, 0)) is not None:
                digests["state"] = facts.head.digest
        lines = (path.read_text().splitlines() for path in [witness_of(self.configuration).path] if path.exists())
        for line in lines:
            digests["witness"] = bytes.fromhex(line[-1].split()[1])
        digests.update(self.elsewhere.heads())
        return {name: self._seen.get(digest, frozenset()) for name, digest in digests.items()}

    @property
    def protected(self) -> bool:
        """Whether anything that lies there knows each ledger of which a file was published."""
        return any(self._published <= known for known in self.knowers().values())

    def _entries(self) -> list[bytes]:
        path = self.project.private / "ledger.sqlite"
        if not path.exists():
            return []
        try:
            with contextlib.closing(open_ledger(self.configuration, create=False)) as log:
                return log.read()
        except QuietcountError:
            return []

    def check(self) -> None:
        """Hold that no cell has two values, and that nobody counts more often than the ledger says."""
        twice = drawn_twice(self)
        assert not twice, f"drawn twice: {twice}\n{self}"
        counted = sum(
            value % _STAMP for (table, _), values in self.published.items() for value in values if table == "requests"
        )
        most = self._people * (1 + self.losses)
        assert counted <= most, f"{counted} contributions of {self._people} cases, losses: {self.losses}\n{self}"

    def __str__(self) -> str:
        return "\n".join([self.name, *self.story])

    # A person

    def mend(self, error: QuietcountError) -> None:
        """Do what a refusal says, one way or the other if it names two."""
        self.tell(f"refused ({type(error).__name__}): {error.what}".replace(f"{self.project.folder}/", ""))
        if self.chance.random() < 0.4 and any(self.put_newest_back(part) for part in self._named(error)):
            return
        remedy = error.remedy
        if "ledger restore" in remedy or "newest ledger back" in remedy:
            self._restore_ledger()
        elif isinstance(error, WitnessesAway):
            self._command("the witness's keeper is asked", lambda _: self.tell(self.elsewhere.called()))
        elif "new-key" in remedy or "signing key" in error.what:
            self._replace("signing", None)
            self._command("new-key", lambda now: renew_key(self.configuration, now, lambda _: None))
        elif "--lost secret" in remedy:
            self._command(
                "record-loss --lost secret", lambda now: record_state_loss(self.configuration, now, Lost.SECRET)
            )
        elif "--lost year" in remedy:
            self._command("record-loss --lost year", lambda now: record_state_loss(self.configuration, now, Lost.YEAR))
        elif "record-loss" in remedy:
            self._command("record-loss", lambda now: record_state_loss(self.configuration, now))
        elif "new-log" in remedy:
            self._command("new-log", lambda _: follow_new_log(self.configuration))
        else:
            moved = [part for part in self._named(error) if self.put_newest_back(part)]
            assert moved, f"nobody knows what to do about: {error}\n{self}"

    def _named(self, error: QuietcountError) -> list[str]:
        """Return the parts that a refusal is about, most likely first."""
        words = {
            "signing": "sign",
            "state": "state-0.duckdb",
            "log": "log",
            "secret": "secret",
            "years": "secret of",
            "ledger": "ledger",
            "public": "statistics.duckdb",
        }
        return [part for part, word in words.items() if word in str(error) and part in self._newest]

    def _command(self, name: str, command: Callable[[dt.datetime], object]) -> None:
        self.tell(name)
        try:
            command(utc(self.today))
        except QuietcountError as error:
            self.tell(f"{name} is refused: {error}".replace(f"{self.project.folder}/", ""))
            # What this says is done next, if it is another thing.
            for part in self._named(error):
                self.put_newest_back(part)
        else:
            if name.startswith(("new-key", "record-loss")):
                # The ledger here went on: what was moved away is no longer the newest, and would be another history.
                self._newest.pop("ledger", None)

    def _restore_ledger(self) -> None:
        """Move the ledger away, and bring it back from the newest copy or from a witness, or from what is taken for it.

        A witness may know more than the newest copy: it signs what a release is about to draw beyond.
        """
        wrong, given_back = self.chance.random() < 0.2, self.folder / "given-back"
        file = self.chance.choice(self.archive) if wrong else self.archive[-1]
        if not wrong and self.elsewhere.restorable(given_back):
            file = given_back
        self._replace("ledger", None)
        self._command(f"restore {file.name}", lambda _: restore_ledger(self.configuration, file))


def drawn_twice(life: Life) -> dict[Cell, set[int]]:
    """Return the cells that have several values in all that was ever published."""
    return {cell: values for cell, values in life.published.items() if len(values) > 1}
