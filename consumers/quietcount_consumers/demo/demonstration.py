"""The demo: the whole job on synthetic cases whose true counts are published figures.

It runs on the embedded log, or on brokers that take anyone: there on topics of its own, which the next demo in the same
folder deletes.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import os
import re
import secrets
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from quietcount_aggregates.noise import CONFIDENCE, margin
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.demo.chart import Bar, bar_chart
from quietcount_consumers.demo.synthetic import ASSUMPTIONS, synthetic_events
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.opening import open_service
from quietcount_consumers.project import create_project
from quietcount_consumers.queries import query
from quietcount_consumers.running.ticks import StopSignal, run_until_idle
from quietcount_consumers.running.timekeeping import fixed_clock
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.publisher import CaseEventPublisher
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_schemas.configuration import DEFAULT_LOG, checked
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.events.periods import Period

__all__ = ["DEFAULT_DIR", "Figure", "run_demo"]

DEFAULT_DIR = Path("quietcount-demo")

# The first moment at which November 2023 is due: its end and the grace of seven days.
AS_OF = dt.datetime(2023, 12, 8, tzinfo=dt.UTC)

_MARKER = ".quietcount-demo"
_TOPIC_PREFIX = re.compile(r"quietcount-demo-[0-9a-f]{8}\.")

_DESERTION = "help_kind=DESERTION"
_SURRENDER = "help_kind=SURRENDER"

# How each published figure is asked for: the macro, the table, and the cells it is about.
_QUESTIONS = {
    "requests for help to desert": ("total", "requests_by_kind", _DESERTION),
    "requests for help to desert: June to August": ("total", "requests_by_kind", _DESERTION),
    "requests for help to desert: September to November": ("total", "requests_by_kind", _DESERTION),
    "change from June-August to September-November in percent": ("compare", "requests_by_kind", _DESERTION),
    "requests for help to desert since April": ("total", "requests_by_kind", _DESERTION),
    "applications in the first year of mobilisation": ("total", "requests_by_kind", _SURRENDER),
    "unauthorised-abandonment cases sent to military courts since mobilisation": ("total", "court_cases", ""),
    "of these sentenced": ("total", "sentences", ""),
    "prisoners of war captured in August": ("total", "captivity", ""),
    "of these surrendered voluntarily": ("total", "captivity", "manner=SURRENDERED_VOLUNTARILY"),
}


class Figure(NamedTuple):
    """A published figure beside the demo's own answer for the whole months around it, with its 95 % interval."""

    source: str
    statistic: str
    period_start: dt.date
    period_end: dt.date
    published: int
    status: str
    answered_start: dt.date
    answered_end: dt.date
    estimate: float
    lower: float
    upper: float


def run_demo(folder: Path, *, as_json: bool, log: str = DEFAULT_LOG) -> None:
    """Make `folder` again, do the whole job in it on `log` and show what came out. Raises a QuietcountError."""
    stderr = Console(stderr=True)
    with stderr.status("Making a project") as status:
        _reach(log)
        _prepare(folder)
        prefix = "" if log == DEFAULT_LOG else f"quietcount-demo-{secrets.token_hex(4)}."
        create_project(folder, with_history=True, log=log, topic_prefix=prefix)
        # The environment is a real project's: what it says must not lead the demo to that project's files.
        configuration = Configuration.load(folder / "quietcount.toml", environment={})
        if configuration.kafka is not None:
            from quietcount_consumers.kafka.topics import create_topics

            create_topics(configuration.kafka)
        with StopSignal() as stop:
            # First the service, then the events: what cannot be folded is not emitted either.
            with open_service(configuration, AS_OF) as service:
                status.update("Emitting synthetic cases")
                _emit(folder / "quietcount.toml")
                status.update("Folding, releasing, publishing")
                run_until_idle(service, fixed_clock(AS_OF), stop)
            if stop():
                raise click.Abort
    figures = [_answer(configuration.public_file, row) for row in _published()]
    if as_json:
        click.echo(json.dumps(_as_object(configuration, figures), ensure_ascii=False, indent=2))
    else:
        _show(Console(highlight=False, markup=False), configuration, figures, folder)


def _reach(log: str) -> None:
    """Raise LogError when `log` names brokers that cannot be used, before anything is made or removed for them."""
    given = checked(Path("quietcount demo"), {"log": log}, {"log": "--log"})
    given.refuse_faults(ServiceError)
    settings = KafkaSettings.of(given)
    if settings is not None:
        from quietcount_producers.kafka.connection import reach

        reach(settings, "quietcount-demo")


def _prepare(folder: Path) -> None:
    """Empty the folder of an earlier demo; refuse any other folder that holds something."""
    try:
        if folder.exists() and any(folder.iterdir()):
            if not (folder / _MARKER).is_file():
                raise ServiceError(f"{folder}: is not empty and not a demo's", "Name another folder with --dir")
            _delete_topics(folder)
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARKER).write_text("Made by quietcount demo, which may remove this folder.\n", encoding="utf-8")
    except OSError as error:
        raise ServiceError(
            f"{folder}: cannot be made or written ({os.strerror(error.errno or 0)})", "Name another folder with --dir"
        ) from None


def _delete_topics(folder: Path) -> None:
    """Delete the topics of an earlier demo; those of a project, which somebody may have made of it, are left alone.

    Raises ServiceError if they cannot be deleted: nothing but the folder says where they are.
    """
    config = folder / "quietcount.toml"
    written = _TOPIC_PREFIX.search(config.read_text(encoding="utf-8", errors="replace") if config.exists() else "")
    if written is None:
        return
    try:
        settings = Configuration.load(config, environment={}).kafka
        if settings is not None and _TOPIC_PREFIX.fullmatch(settings.topic_prefix):
            from quietcount_consumers.kafka.topics import delete_topics

            delete_topics(settings)
    except QuietcountError as error:
        raise ServiceError(
            f"{folder}: is kept, because the topics of the earlier demo in it, {written[0]}*, cannot be deleted. "
            f"{error.what}",
            (f"{error.remedy}. " if error.remedy else "")
            + "Then run this again, or name another folder with --dir. If the brokers are permanently gone, remove the "
            "folder",
        ) from error


def _emit(config: Path) -> None:
    settings = EmitterSettings.load(config, environment={})
    log = open_log(settings)
    try:
        pepper = Pepper.load(settings.pepper_file)
        with CaseEventPublisher(log, pepper=pepper, precision=settings.precision) as publisher:
            for event in synthetic_events():
                publisher.emit(event.event, event.case, event.occurred_on, **event.attributes)
    finally:
        log.close()


def _published() -> list[dict[str, str]]:
    text = resources.files("quietcount_consumers").joinpath("demo", "published_figures.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _answer(public: Path, row: dict[str, str]) -> Figure:
    start, end = dt.date.fromisoformat(row["period_start"]), dt.date.fromisoformat(row["period_end"])
    macro, statistic, cells = _QUESTIONS[row["statistic"]]
    # Every table asked is released by the month: a span that is not made of whole ones gets the nearest that are.
    first, last = Period.MONTH.start(start), Period.MONTH.end(end)
    if macro == "compare":
        # From the three months before to these three.
        before = "'2023-06-01', '2023-08-31'"
        columns = "percent_change, percent_lower, percent_upper"
        sql = f"SELECT {columns} FROM compare('{statistic}', {before}, '{first}', '{last}', cells := '{cells}')"
    else:
        sql = f"SELECT shown, lower, upper FROM total('{statistic}', '{first}', '{last}', cells := '{cells}')"
    _, rows = query(public, sql)
    estimate, lower, upper = (round(float(value), 1) if macro == "compare" else int(value) for value in rows[0])
    return Figure(
        source=row["source"],
        statistic=row["statistic"],
        period_start=start,
        period_end=end,
        published=int(row["value"]),
        status=row["status"],
        answered_start=first,
        answered_end=last,
        estimate=estimate,
        lower=lower,
        upper=upper,
    )


def _as_object(configuration: Configuration, figures: Sequence[Figure]) -> dict[str, Any]:
    keys = ("source", "statistic", "published", "estimate", "lower", "upper")
    days = ("period_start", "period_end", "answered_start", "answered_end")
    return {
        "statistics_db": str(configuration.public_file),
        "lifetime_epsilon": float(configuration.lifetime_epsilon),
        "figures": [
            {key: getattr(figure, key) for key in keys} | {day: getattr(figure, day).isoformat() for day in days}
            for figure in figures
        ],
    }


def _show(console: Console, configuration: Configuration, figures: Sequence[Figure], folder: Path) -> None:
    public = configuration.public_file
    console.print("Published figures, beside what quietcount tells of synthetic cases with these counts")
    console.print(f"An interval misses the true value about once in {1 / (1 - CONFIDENCE):.0f}\n")
    console.print(_figure_table(figures))
    console.print("\nRequests for help to desert, a month (bar: estimate; ├─┤: 95 % interval)\n")
    sql = f"SELECT period_start, shown, lower, upper FROM series('requests_by_kind', cells := '{_DESERTION}')"
    _, months = query(public, f"{sql} WHERE period_start >= '2023-04-01'")
    for line in bar_chart([Bar(f"{start:%b %Y}", *rest) for start, *rest in months], console.width):
        console.print(line)
    console.print("\nWhere the lifetime epsilon went\n")
    console.print(_budget_table(public))
    _, rows = query(public, "SELECT value FROM about WHERE key = 'bound'")
    console.print(f"\n{rows[0][0]}\n")
    console.print("What the synthetic cases assume\n")
    for assumption in ASSUMPTIONS:
        console.print(textwrap.fill(assumption, console.width - 2, initial_indent="  - ", subsequent_indent="    "))
    config = folder / "quietcount.toml"
    private = folder / configuration.private_dir.relative_to(configuration.data_dir.parent)
    console.print("\nFiles\n")
    for path, what in (
        (folder / "data" / public.name, "for analysts: noised values only"),
        (private, "for nobody: log, ledger, state" if configuration.kafka is None else "for nobody: the state"),
        (config, "the configuration, with comments"),
    ):
        console.print(f"  {path}: {what}", soft_wrap=True)
    console.print("\nTry next\n")
    # As this command was called: the environment it lives in need not be on the path.
    program = "quietcount" if shutil.which("quietcount") else sys.argv[0]
    for command in (
        f'{program} query --config {config} "FROM requests_by_kind"',
        f"{program} query --config {config} \"FROM compare('requests_by_kind', '2023-06-01', '2023-08-31', "
        "'2023-09-01', '2023-11-30')\"",
        f"{program} report --config {config}",
        f"{program} ledger show --config {config}",
        f"{program} init my-project",
    ):
        console.print(f"  {command}", soft_wrap=True)


def _figure_table(figures: Sequence[Figure]) -> Table:
    table = _table("published figure")
    for column in ("published", "ours", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in figures:
        percent = "percent" in figure.statistic
        more = "> " if "more than" in figure.status else ""
        table.add_row(
            f"{figure.source}: {figure.statistic}, {figure.period_start} to {figure.period_end}{_whole(figure)}",
            f"{more}{_number(figure.published, percent)}",
            _number(figure.estimate, percent),
            f"{_number(figure.lower, percent)} to {_number(figure.upper, percent)}",
        )
    return table


def _whole(figure: Figure) -> str:
    """Say which months were asked for, if the published span is not made of whole ones."""
    answered = figure.answered_start, figure.answered_end
    if answered == (figure.period_start, figure.period_end):
        return ""
    return f" (ours: the whole months {answered[0]:%Y-%m} to {answered[1]:%Y-%m})"


def _table(first: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    return table


def _budget_table(public: Path) -> Table:
    table = _table("table")
    table.add_column("population")
    table.add_column("released by")
    table.add_column("epsilon", justify="right")
    table.add_column("margin of one draw", justify="right")
    _, rows = query(
        public,
        "SELECT statistic, population, period, epsilon, "
        "(SELECT scale FROM noise_scales s WHERE s.statistic = b.statistic) FROM budget b "
        "ORDER BY population, epsilon DESC",
    )
    for statistic, population, period, epsilon, scale in rows:
        around = "" if scale is None else f"±{margin(scale)}"
        table.add_row(statistic, population, period, f"{epsilon:g}", around)
    _, rows = query(public, "SELECT key, value FROM about WHERE key IN ('lifetime_epsilon', 'epsilon_declared')")
    about = dict(rows)
    table.add_row("spent", "", "", f"{float(about['epsilon_declared']):g}", "", style="bold")
    table.add_row("lifetime epsilon", "", "", f"{float(about['lifetime_epsilon']):g}", "", style="bold")
    return table


def _number(value: float, percent: bool) -> str:
    return f"{value:+.0f} %" if percent else f"{value:.0f}"
