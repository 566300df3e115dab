"""The entries of the ledger and their bytes.

An entry is an Avro record in single-object encoding. Its digest covers all of its bytes, which include the digest of
the entry before, so that the last digest (the head) vouches for the whole chain.

What is in a ledger is never rewritten, so there is nothing to migrate. A further schema has a fingerprint of its own,
begins with `index` and `previous` as the first one does, and is read beside it; an entry is written in the oldest
schema that can say it. So a version that does not know a schema can tell a newer entry from a damaged one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any, NamedTuple

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from quietcount_aggregates.description import Description
from quietcount_aggregates.errors import RESTORE_LEDGER, LedgerBroken
from quietcount_aggregates.populations import Population

__all__ = [
    "GENESIS",
    "Body",
    "Completed",
    "Declared",
    "Described",
    "Entry",
    "Head",
    "Opened",
    "Rekeyed",
    "Released",
    "Retired",
    "Settled",
    "StateLost",
    "commitment_of",
    "ledger_id_of",
    "of_newer_schema",
]

GENESIS = bytes(32)
"""What the first entry names as the digest of the entry before it."""

_DOMAIN = b"quietcount ledger entry\x00"
_LEDGER = b"quietcount ledger\x00"
_MARKER = b"\xc3\x01"  # of Avro's single-object encoding


@dataclass(frozen=True, slots=True)
class Opened:
    """The first entry: the owner's public key, the bound it was opened with, and in how many partitions events lie.

    The key (Ed25519, 32 bytes) is made for this ledger alone, and its digest is the ledger's identity: nobody else can
    open another ledger of the same name and sign for it.
    """

    public_key: bytes
    lifetime_epsilon: Decimal
    partitions: int

    @property
    def ledger_id(self) -> bytes:
        """Return what tells two ledgers apart, for ever: 16 bytes."""
        return ledger_id_of(self.public_key)


@dataclass(frozen=True, slots=True)
class Declared:
    """A population, with the whole budget of its tables spent.

    `whole_log` says that the ledger was opened with it: a later one counts what is appended after its declaration, and
    `place` is the commitment to where that is (see places.py).
    """

    population: Population
    whole_log: bool = False
    place: bytes | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """What the publisher says of the figures, in the place of what an earlier entry says."""

    description: Description


@dataclass(frozen=True, slots=True)
class Settled:
    """Everything that was due at one tick is settled; the releases that follow directly count the log up to one place.

    `place` is the commitment to it.
    """

    place: bytes = b""


@dataclass(frozen=True, slots=True)
class Released:
    """One period of one table; `values` has one int a cell, in the order of the table's domain.

    `statistic` is the table's name, `digest` that of its population's declaration.
    """

    population: str
    statistic: str
    digest: bytes
    period_start: dt.date
    period_end: dt.date
    values: tuple[int, ...]
    mechanism: str
    noise_scale: float


@dataclass(frozen=True, slots=True)
class Retired:
    """A population that is not released any more."""

    population: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The past of a population that was declared later is in the log: its periods may be released from here on."""

    population: str


@dataclass(frozen=True, slots=True)
class StateLost:
    """A loss of the private state; `losses` counts this one too.

    Of one `partition`, or of each if that is None. The state is `kept` if the emitters' pepper alone was lost: what it
    holds goes on to count.
    """

    losses: int
    partition: int | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """The owner signs with another key (Ed25519, 32 bytes) from here on; the ledger keeps its identity."""

    public_key: bytes


Body = Opened | Declared | Described | Settled | Released | Retired | Completed | StateLost | Rekeyed


def commitment_of(body: Body) -> bytes | None:
    """Return the commitment of an entry that has a place in the log; None for the others."""
    return body.place if isinstance(body, Declared | Settled) else None


class Head(NamedTuple):
    """How far a chain goes: the number of entries and the digest of the last one."""

    length: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry in its place in the chain."""

    index: int
    previous: bytes
    recorded_at: dt.datetime
    body: Body
    data: bytes
    digest: bytes

    @property
    def kind(self) -> str:
        """Return what the entry records, in one lower-case word."""
        return {"StateLost": "state_lost"}.get(type(self.body).__name__, type(self.body).__name__.lower())

    @classmethod
    def make(cls, index: int, previous: bytes, recorded_at: dt.datetime, body: Body) -> Entry:
        """Encode a body as the entry that follows the one with digest `previous`."""
        record = {
            "index": index,
            "previous": previous,
            "recorded_at": recorded_at,
            "body": (f"quietcount.ledger.{type(body).__name__}", _record(body)),
        }
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, _SCHEMA, record, strict=True)
        data = _FRAME + buffer.getvalue()
        return cls(index, previous, recorded_at, body, data, _digest(data))

    @classmethod
    def read(cls, data: bytes, place: int) -> Entry:
        """Decode the entry that lies at `place`; raise LedgerBroken if its bytes are not exactly what `make` writes."""
        try:
            if data[: len(_FRAME)] != _FRAME:
                raise ValueError("an unknown schema")
            buffer = io.BytesIO(data[len(_FRAME) :])
            record: Any = fastavro.schemaless_reader(buffer, _SCHEMA, None, return_record_name=True)
            name, fields = record["body"]
            entry = cls.make(record["index"], record["previous"], record["recorded_at"], _body(name, fields))
        except (ValueError, TypeError, LookupError, AttributeError, EOFError, ArithmeticError) as error:
            raise LedgerBroken(
                f"ledger entry {place} cannot be decoded ({type(error).__name__}): it was altered or damaged",
                RESTORE_LEDGER,
            ) from None
        if entry.data != data:
            raise LedgerBroken(
                f"ledger entry {place} was altered: it is not written as quietcount writes it", RESTORE_LEDGER
            )
        return entry


def ledger_id_of(public_key: bytes) -> bytes:
    """Return the identity of the ledger that is opened with a key: 16 bytes."""
    return hashlib.sha256(_LEDGER + public_key).digest()[:16]


def of_newer_schema(data: bytes, index: int, previous: bytes) -> bool:
    """Return whether `data` is the entry at `index` after `previous`, in a schema that this version does not know.

    A known schema's entry whose fingerprint alone was altered is none: it would have been written in that schema.
    """
    if data[: len(_MARKER)] != _MARKER or data[: len(_FRAME)] == _FRAME:
        return False
    place = io.BytesIO()
    fastavro.schemaless_writer(place, {"type": "long"}, index)
    content = data[len(_FRAME) :]
    if not content.startswith(place.getvalue() + previous):
        return False
    try:
        Entry.read(_FRAME + content, index)
    except LedgerBroken:
        return True
    return False


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(_DOMAIN + data).digest()


def _record(body: Body) -> dict[str, Any]:
    match body:
        case Opened():
            return {
                "public_key": body.public_key,
                "lifetime_epsilon": str(body.lifetime_epsilon),
                "partitions": body.partitions,
            }
        case Declared():
            return {
                "population": body.population.canonical,
                "whole_log": body.whole_log,
                "place": body.place,
                "digest": body.population.digest,
            }
        case Described():
            return {"description": body.description.canonical}
        case Settled():
            return {"place": body.place}
        case Released():
            return {
                "population": body.population,
                "statistic": body.statistic,
                "digest": body.digest,
                "period_start": body.period_start,
                "period_end": body.period_end,
                "values": list(body.values),
                "mechanism": body.mechanism,
                "noise_scale": body.noise_scale,
            }
        case Retired() | Completed():
            return {"population": body.population}
        case StateLost():
            return {"losses": body.losses, "partition": body.partition, "kept": body.kept}
        case Rekeyed():
            return {"public_key": body.public_key}


def _body(name: str, fields: dict[str, Any]) -> Body:
    match name.rpartition(".")[2]:
        case "Opened":
            return Opened(fields["public_key"], Decimal(fields["lifetime_epsilon"]), fields["partitions"])
        case "Declared":
            population = Population.from_canonical(fields["population"])
            if population.digest != fields["digest"]:
                raise ValueError("the digest is not that of the population")
            # Of a union with a named type the decoder returns its name, too.
            place = None if fields["place"] is None else fields["place"][1]
            return Declared(population, fields["whole_log"], place)
        case "Described":
            return Described(Description.from_canonical(fields["description"]))
        case "Settled":
            return Settled(fields["place"])
        case "Released":
            return Released(
                population=fields["population"],
                statistic=fields["statistic"],
                digest=fields["digest"],
                period_start=fields["period_start"],
                period_end=fields["period_end"],
                values=tuple(fields["values"]),
                mechanism=fields["mechanism"],
                noise_scale=fields["noise_scale"],
            )
        case "Retired":
            return Retired(fields["population"])
        case "Completed":
            return Completed(fields["population"])
        case "StateLost":
            return StateLost(fields["losses"], fields["partition"], fields["kept"])
        case "Rekeyed":
            return Rekeyed(fields["public_key"])
        case other:
            raise ValueError(other)


def _load_schema() -> tuple[Any, bytes]:
    text = resources.files("quietcount_schemas").joinpath("ledger", "1.avsc").read_text(encoding="utf-8")
    schema = json.loads(text)
    crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    # fastavro prints the 64-bit number with its most significant byte last, as the single-object encoding has it.
    return fastavro.parse_schema(schema), _MARKER + bytes.fromhex(crc)


_SCHEMA, _FRAME = _load_schema()
