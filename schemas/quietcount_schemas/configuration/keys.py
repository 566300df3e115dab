"""Every key of the configuration, as one table. The reader, the pages and the doctor all use it.

A row says what a key is called, how its value is read, what it means, its default, whether a running service needs a
restart for a new value, and which other key goes with it. What is wrong with several keys together is in the rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from quietcount_schemas.configuration import readers, rules
from quietcount_schemas.configuration.partners import WITNESSES
from quietcount_schemas.configuration.places import (
    DEFAULT_DATA_DIR,
    DEFAULT_IDS_FILE,
    DEFAULT_LISTEN,
    DEFAULT_LOG,
    DEFAULT_PEPPER_FILE,
    DEFAULT_RECEIVE,
    DEFAULT_SECRET_FILE,
)
from quietcount_schemas.configuration.readers import Reader
from quietcount_schemas.configuration.rows import Key, Section
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period

__all__ = ["CONFIGURATION", "FORMER", "KEYS", "Key", "Section", "each_key", "markdown"]


def _words(most: int) -> Reader:
    """Read one line of text that can be published: no control characters, line separators and half surrogate pairs."""
    unprintable = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    return readers.text(f"write one line of text, {most:,} characters at most", rf"[^{unprintable}]{{0,{most}}}")


FORMER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "statistic": "a statistic is a table of a population. Write [[population]] with name, events, where, period, "
        "max_contributions, horizon, since and late. Write [[population.table]] with name, by, period and epsilon below"
    }
)
"""By a name that is no key any more, what to write in its place."""

CONFIGURATION: Final = Section(
    "",
    keys=(
        Key(
            "log",
            readers.log(),
            'where case events are: the embedded log, or Kafka, as `"kafka://host:9092,host2:9092"`',
            DEFAULT_LOG,
            restart=True,
        ),
        Key("data_dir", readers.path(), "what the service writes", DEFAULT_DATA_DIR, restart=True),
        Key(
            "lifetime_epsilon",
            readers.number("write a number above 0, 100 at most", above=0, most=100),
            "the bound; fixed when the ledger is opened",
            required=True,
            service_alone=True,
        ),
        Key("grace", readers.duration("0d", "366d"), "how long after its end a period is released", "7d"),
        Key("tick", readers.duration("1s", "1d"), "how often the service works", "60s"),
        Key(
            "schemas",
            readers.paths('write a list of folders, as ["my-schemas"]'),
            "folders with event types of your own",
            [],
        ),
    ),
    rules=(rules.a_name_is_given_once,),
    sections=(
        Section(
            "emitter",
            (
                Key("pepper_file", readers.path(), "the emitters' secret", DEFAULT_PEPPER_FILE),
                Key("spool", readers.path(), "a folder where emitters keep what waits while the log does not answer"),
                Key(
                    "allow_identifiers",
                    readers.choices(f"write a list of some of {', '.join(Oddity)}", Oddity),
                    'kinds of odd identifiers that emitters take all the same, as `["placeholder"]` ([which there '
                    "are](../schemas/README.md#identifiers))",
                    [],
                ),
            ),
        ),
        Section(
            "receive",
            (
                Key(
                    "listen",
                    readers.listen(DEFAULT_RECEIVE, off=False),
                    "where `quietcount receive` takes deliveries; port 0 for one that the system chooses",
                    DEFAULT_RECEIVE,
                ),
                Key(
                    "certificate_file",
                    readers.path(),
                    "TLS, with `receive.key_file`: the certificate, followed by those that lead to the authority",
                    needs="key_file",
                ),
                Key("key_file", readers.path(), "its private key", needs="certificate_file"),
            ),
            (
                Section(
                    "path",
                    (
                        Key(
                            "path",
                            readers.url_path(),
                            "where one tool delivers: the path of the address that you type into the tool",
                            required=True,
                        ),
                        Key("mapping", readers.path(), "the mapping from the tool's JSON to events", required=True),
                        Key(
                            "token_file",
                            readers.path(),
                            "the file with the token that the tool sends; two lines are two tokens",
                            required=True,
                        ),
                    ),
                    repeated=True,
                ),
            ),
            rules=(rules.others_deliver_over_tls, rules.a_path_is_given_once),
        ),
        Section(
            "service",
            (
                Key(
                    "secret_file",
                    readers.path(),
                    "the service's secret; the first run makes it if there is none",
                    DEFAULT_SECRET_FILE,
                    restart=True,
                ),
                Key(
                    "log_format",
                    readers.choice('write "auto", "console" or "json"', ("auto", "console", "json")),
                    'how the service writes its log to stderr: `"console"` for people, `"json"` for programs; '
                    '`"auto"` is console at a terminal and JSON in a pipe',
                    "auto",
                ),
            ),
        ),
        Section(
            "kafka",
            (
                Key(
                    "topic_prefix",
                    # Kafka's own alphabet; a topic's name has 249 characters at most.
                    readers.text("write letters, digits, '.', '_' and '-', as text", "[A-Za-z0-9._-]{0,200}"),
                    "goes before the name of each topic, of the group and of the transactional id",
                    restart=True,
                ),
                Key(
                    "tls",
                    readers.boolean(),
                    "TLS; without `kafka.ca_file` it trusts the system's authorities",
                    default_text="`false`, `true` with a file below",
                ),
                Key("ca_file", readers.path(), "the authority that signed the brokers' certificates"),
                Key(
                    "certificate_file",
                    readers.path(),
                    "your own certificate (mTLS), with `kafka.key_file`",
                    needs="key_file",
                ),
                Key("key_file", readers.path(), "its private key", needs="certificate_file"),
                Key("key_password_file", readers.path(), "the file with the key's password", needs="key_file"),
                Key("username", readers.text(), "the user (SCRAM), with `kafka.password_file`", needs="password_file"),
                Key("password_file", readers.path(), "the file with the user's password", needs="username"),
                Key(
                    "sasl_mechanism",
                    readers.choice('write "SCRAM-SHA-512" or "SCRAM-SHA-256"', ("SCRAM-SHA-512", "SCRAM-SHA-256")),
                    'or `"SCRAM-SHA-256"`',
                    "SCRAM-SHA-512",
                ),
            ),
            rules=(rules.tls_is_on_with_its_files,),
        ),
        Section(
            "schema_registry",
            (
                Key("url", readers.url(), "a Confluent Schema Registry; emitters then write its framing"),
                Key(
                    "username",
                    readers.user_of_http(),
                    "for registration, with `schema_registry.password_file`",
                    needs="password_file",
                ),
                Key("password_file", readers.path(), "the file with its password", needs="username"),
                Key("ca_file", readers.path(), "the authority that signed the registry's certificate"),
                Key("ids_file", readers.path(), "the ids that `quietcount schemas register` pinned", DEFAULT_IDS_FILE),
            ),
            rules=(rules.a_password_is_sent_over_tls,),
        ),
        Section(
            "metrics",
            (
                Key(
                    "listen",
                    readers.listen(DEFAULT_LISTEN),
                    'where `quietcount run` serves metrics and health; `"off"` for nowhere, port 0 for one that the '
                    "system chooses",
                    DEFAULT_LISTEN,
                    restart=True,
                ),
                Key(
                    "certificate_file",
                    readers.path(),
                    "TLS, with `metrics.key_file`: the certificate, followed by those that lead to the authority",
                    restart=True,
                    needs="key_file",
                ),
                Key("key_file", readers.path(), "its private key", restart=True, needs="certificate_file"),
                Key(
                    "username",
                    readers.user_of_http(),
                    "the user who may read, with `metrics.password_file`; needs TLS, unless the address is on this "
                    "machine alone",
                    restart=True,
                    needs="password_file",
                ),
                Key("password_file", readers.path(), "the file with the password", restart=True, needs="username"),
            ),
            rules=(rules.others_are_let_in_by_tls_and_password,),
        ),
        Section(
            "publication",
            (
                Key("publisher", _words(200), "who publishes the figures; this section is published beside them", ""),
                Key("licence", _words(200), 'under what licence, as `"CC-BY-4.0"`', ""),
                Key("contact", _words(200), "where to ask about the figures: a page or an address", ""),
                Key(
                    "citation",
                    _words(500),
                    "how to cite the figures",
                    "",
                    default_text="made of publisher, title and edition",
                ),
            ),
        ),
        WITNESSES,
        Section(
            "population",
            (
                Key("name", readers.text("write text"), "lower-case", required=True, service_alone=True),
                Key("title", _words(200), "what is counted, in a few words: it is published", ""),
                Key("description", _words(2000), "more about it, also published", ""),
                Key(
                    "events",
                    readers.texts('write a list of event types, as ["HelpRequested"]'),
                    "the event types counted",
                    required=True,
                ),
                Key(
                    "where",
                    readers.symbols_by_field('write a table of lists, as { help_kind = ["DESERTION"] }'),
                    "only events whose field has one of these symbols",
                    {},
                    default_text="none",
                ),
                Key(
                    "period",
                    readers.choice(f"write one of {', '.join(Period)}, as text", Period),
                    "`day`, `week`, `month`, `quarter` or `year`: the finest period of its tables. When one is over, "
                    "its events are counted and forgotten",
                    required=True,
                ),
                Key(
                    "max_contributions",
                    readers.whole_number(),
                    "how many events of one case count at most, over the horizon, in all tables alike",
                    1,
                ),
                Key(
                    "horizon",
                    readers.choice('write "lifetime" or "year"', ("lifetime", "year")),
                    'or `"year"` (not by week): the limit, and the bound, then hold for each calendar year',
                    "lifetime",
                ),
                Key(
                    "since",
                    readers.day(),
                    "the first period counted; if it begins before a declaration after the first run, see "
                    "`quietcount declare`",
                    default_text="the first that begins after the declaration",
                ),
                Key(
                    "late",
                    readers.choice('write "carry" or "drop"', ("carry", "drop")),
                    "an event of a settled period counts in the earliest one that is still open, if it is dated at "
                    "most a year before that begins (with a yearly horizon only within its calendar year), or not at "
                    'all (`"drop"`)',
                    "carry",
                ),
            ),
            (
                Section(
                    "table",
                    (
                        Key(
                            "name",
                            readers.text("write text"),
                            "lower-case; also the name of its view",
                            required=True,
                            service_alone=True,
                        ),
                        Key(
                            "by",
                            readers.dimensions(
                                'write a list of fields, as ["service_category"]; a whole number with its buckets: '
                                '[{ field = "days_waited", buckets = [0, 7, 30] }]'
                            ),
                            "one cell for each combination of these fields' symbols, zeros included. A whole number "
                            'has buckets: `{ field = "days_waited", buckets = [0, 7, 30] }` has the cells `0..6`, '
                            "`7..29` and `30+`",
                            [],
                            default_text="none",
                        ),
                        Key(
                            "sum",
                            readers.summed(),
                            "not a count but an average: the whole number to sum up, the two ends to which what lies "
                            "beyond is moved, and the table that says how many there are",
                        ),
                        Key(
                            "where",
                            readers.symbols_by_field('write a table of lists, as { help_kind = ["DESERTION"] }'),
                            "only those of the population's events whose field has one of these symbols",
                            {},
                            default_text="none",
                        ),
                        Key(
                            "period",
                            readers.choice(f"write one of {', '.join(Period)}, as text", Period),
                            "what it is released by: it is made of whole periods of the population",
                            default_text="that of the population",
                        ),
                        Key(
                            "epsilon",
                            readers.number("write a number"),
                            "what all its releases together may tell about one person",
                            required=True,
                            service_alone=True,
                        ),
                    ),
                    repeated=True,
                ),
            ),
            repeated=True,
        ),
    ),
)
"""The whole configuration: the keys of the top level, and the sections."""


def each_key(section: Section = CONFIGURATION, path: str = "") -> Iterator[tuple[str, Key]]:
    """Yield every key with its dotted name, as pages and messages have it."""
    for key in section.keys:
        yield f"{path}{key.name}", key
    for inner in section.sections:
        yield from each_key(inner, f"{path}{inner.name}.")


def _by_section(section: Section, path: str = "") -> dict[str, Mapping[str, Key | Section]]:
    found = {path: section.members}
    for inner in section.sections:
        found |= _by_section(inner, f"{path}.{inner.name}".lstrip("."))
    return found


KEYS: Final[Mapping[str, Mapping[str, Key | Section]]] = MappingProxyType(_by_section(CONFIGURATION))
"""What may stand in each section, by the section's dotted name (the top level is "")."""


def markdown() -> str:
    """Return the table as the page of the configuration has it."""
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    for name, key in each_key():
        value = "none" if key.default is None else f"`{json.dumps(key.default)}`"
        lines.append(f"| `{name}` | {'required' if key.required else key.default_text or value} | {key.meaning} |")
    return "\n".join(lines) + "\n"
