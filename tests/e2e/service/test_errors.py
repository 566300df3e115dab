"""Each mistake that a person can make: one sentence, nothing half done, and a way on."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from tests.catalogues import statistic
from tests.e2e.projects import Finished, Project, ended
from tests.e2e.services_here import LINES, RUN, TRUE, here, nonzero, project, rewritten

pytestmark = pytest.mark.check

__all__ = ["here", "project"]  # fixtures, which tests ask for by name

CHANGES = [
    ("events", 'events = ["HelpRequested"]', 'events = ["HelpRequested", "OutcomeRecorded"]'),
    ("by of table requests", 'by = ["help_kind"]', 'by = ["region"]'),
    ("period", 'period = "month"', 'period = "week"'),
    ("since", "since = 2023-01-01", "since = 2023-02-01"),
    ("epsilon of table requests", "epsilon = 20.0", "epsilon = 10.0"),
    ("late", 'period = "month"', 'period = "month"\nlate = "drop"'),
    ("max_contributions", 'period = "month"', 'period = "month"\nmax_contributions = 2'),
    ("horizon", 'period = "month"', 'period = "month"\nhorizon = "year"'),
    ("where", 'period = "month"', 'period = "month"\nwhere = { region = ["CENTRAL"] }'),
    ("where of table requests", "epsilon = 20.0", 'epsilon = 20.0\nwhere = { region = ["CENTRAL"] }'),
    ("title", 'period = "month"', 'period = "month"\ntitle = "All requests"'),
]


def test_a_statistic_that_was_changed_after_its_declaration_is_refused(
    project: Project, here: Callable[..., Finished]
) -> None:
    project.run_here("2023-02-08")
    before = project.config.read_text(encoding="utf-8")
    released = project.released()
    for key, old, new in CHANGES:
        if key == "events":
            rewritten(project, 'by = ["help_kind"]\n', 'by = ["region"]\n')
        rewritten(project, old, new)
        message = here(project, *RUN).refusal()
        assert f"'{key}'" in message
        assert "'requests'" in message
        assert "never changes" in message
        assert "new name" in message
        project.config.write_text(before, encoding="utf-8")
    assert project.released() == released
    assert here(project, *RUN).code == 0
    assert released.items() < project.released().items()


def test_a_statistic_left_out_is_refused_until_it_is_retired(project: Project, here: Callable[..., Finished]) -> None:
    project.run_here("2023-02-08")
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text[: text.rindex("[[population]]")], encoding="utf-8")
    message = here(project, *RUN).refusal()
    assert "quietcount ledger retire court_cases" in message
    assert here(project, "ledger", "retire", "court_cases", "--yes").code == 0
    assert here(project, *RUN).code == 0
    assert {statistic for statistic, start, _ in project.released() if start > "2023-02"} == {"requests"}


def test_a_budget_overrun_is_refused_and_declares_nothing(project: Project, here: Callable[..., Finished]) -> None:
    rewritten(project, "lifetime_epsilon = 100", "lifetime_epsilon = 39.999")
    message = here(project, *RUN).refusal()
    for part in ("requests, court_cases", "epsilon 40", "39.999", "Nothing was declared"):
        assert part in message
    assert "declared" not in here(project, "ledger", "show").out
    rewritten(project, "epsilon = 20.0", "epsilon = 19.999")
    assert here(project, *RUN).code == 0
    # What is declared is spent: one more is one too many.
    extra = statistic("more", "HelpRequested", by="help_kind")
    project.config.write_text(project.config.read_text(encoding="utf-8") + extra, encoding="utf-8")
    assert "0.000 of lifetime_epsilon" in here(project, *RUN).refusal()


def test_a_lifetime_epsilon_that_changed_is_refused(project: Project, here: Callable[..., Finished]) -> None:
    project.run_here("2023-02-08")
    rewritten(project, "lifetime_epsilon = 100", "lifetime_epsilon = 60")
    message = here(project, *RUN).refusal()
    assert "Write lifetime_epsilon = 100" in message


@pytest.mark.quick
@pytest.mark.promise("configuration")
@pytest.mark.parametrize(
    "old, new, parts",
    [
        ("lifetime_epsilon", "lifetime_epsilom", ["lifetime_epsilom", "did you mean 'lifetime_epsilon'", "missing"]),
        ('tick = "1s"', "[service]\nsecret = 1", ["service.secret", "did you mean 'secret_file'"]),
        ('tick = "1s"', "[emitter]\npeper_file = 'x'", ["emitter.peper_file", "did you mean 'pepper_file'"]),
        ('by = ["help_kind"]', 'bye = ["help_kind"]', ["population.1.table.1.bye", "did you mean 'by'"]),
        ('tick = "1s"', 'colour = "red"', ["'colour' is unknown", "known are log, data_dir"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(
    project: Project, here: Callable[..., Finished], old: str, new: str, parts: list[str]
) -> None:
    rewritten(project, old, new)
    message = here(project, *RUN).refusal()
    for part in ("quietcount.toml", *parts):
        assert part in message
    assert not project.data.exists()


def test_a_configuration_that_is_missing_or_no_toml_is_said(project: Project, here: Callable[..., Finished]) -> None:
    assert "quietcount init" in here(project, "--config", "absent.toml", *RUN).refusal()
    project.config.write_text("lifetime_epsilon = \n", encoding="utf-8")
    message = here(project, *RUN).refusal()
    assert "is not TOML" in message
    assert "line 1" in message
    project.config.write_bytes(b'log = "\xff"\n')
    assert "is not UTF-8 text" in here(project, *RUN).refusal()
    assert not project.data.exists()


@pytest.mark.quick
@pytest.mark.promise("clear-errors")
@pytest.mark.parametrize(
    "arguments", [("run", "--as-of", "yesterday"), ("release", "--as-of", "2023-13-01"), ("query",)]
)
def test_wrong_usage_ends_with_2(project: Project, here: Callable[..., Finished], arguments: tuple[str, ...]) -> None:
    finished = here(project, *arguments)
    assert finished.code == 2
    assert "Traceback" not in finished.err
    assert "Usage: quietcount" in finished.err


@pytest.mark.quick
@pytest.mark.promise("secrets-private")
@pytest.mark.parametrize("name, command", [("pepper", ("emit", "cases.jsonl")), ("service", RUN)])
def test_a_secret_that_others_can_read_is_refused_until_it_is_private(
    project: Project, here: Callable[..., Finished], name: str, command: tuple[str, ...]
) -> None:
    (project.folder / "cases.jsonl").write_bytes(b"")
    secret = project.folder / "secrets" / name
    for mode in (0o640, 0o604, 0o644):
        secret.chmod(mode)
        message = here(project, *command).refusal()
        assert re.search(rf"chmod 600 \S*secrets/{name}", message)
        assert secret.read_text().strip() not in message
        assert not project.public.exists()
    secret.chmod(0o600)
    assert here(project, *command).code == 0
    secret.unlink()
    remedy = {"pepper": "quietcount init", "service": "record-loss --lost secret"}[name]
    assert remedy in here(project, *command).refusal()


def test_an_unknown_symbol_on_line_7_of_a_csv_is_named_and_nothing_is_sent(
    project: Project, here: Callable[..., Finished]
) -> None:
    rows = ["event,case,occurred_on,help_kind", *(f"HelpRequested,c{n},2023-02-0{n},DESERTION" for n in range(1, 9))]
    rows[6] = rows[6].replace("DESERTION", "DESSERT")
    (project.folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    finished = here(project, "emit", "cases.csv")
    finished.refusal()
    assert "cases.csv line 7: help_kind" in finished.err
    assert "DESERTION" in finished.err
    assert "DESSERT" not in finished.err.replace("DESERTION", "")
    (project.folder / "cases.csv").write_text("\n".join(rows).replace("DESSERT", "DESERTION") + "\n", encoding="utf-8")
    assert here(project, "emit", "cases.csv").code == 0
    project.run_here()
    assert nonzero(project) == {("requests", "2023-02-01", "help_kind=DESERTION"): 8}


# What was lost or doubled


def test_a_second_service_on_one_folder_is_refused_and_harms_nothing(
    project: Project, here: Callable[..., Finished]
) -> None:
    project.emit(LINES)
    rewritten(project, 'tick = "1s"', 'tick = "1h"')
    first = project.start_runner("--as-of", "2023-01-02", "--advance")  # nothing is due: it sits and waits
    try:
        assert first.stdout is not None
        first.stdout.readline()
        rewrite = project.private / "state-0.duckdb.next"
        rewrite.write_bytes(b"the first service is writing its state anew")
        for command in (RUN, ("release", "--as-of", "2024-01-08"), ("ledger", "retire", "requests")):
            assert "another quietcount service holds it" in here(project, *command).refusal()
        assert rewrite.read_bytes() == b"the first service is writing its state anew"
    finally:
        first.send_signal(signal.SIGTERM)
        finished = ended(first)
    finished.done()
    project.run_here()
    assert nonzero(project) == TRUE


def test_an_older_ledger_is_refused(project: Project, here: Callable[..., Finished]) -> None:
    project.emit(LINES)
    project.run_here("2023-03-08")
    ledger = project.private / "ledger.sqlite"
    old = ledger.read_bytes()
    project.run_here("2023-06-08")
    new, released = ledger.read_bytes(), project.released()
    public = project.public.read_bytes()
    ledger.write_bytes(old)
    message = here(project, *RUN).refusal()
    assert "older copy" in message
    assert "Put the newest ledger back" in message
    project.public.unlink()  # the state knows the newer head, too
    assert "older copy" in here(project, *RUN).refusal()
    project.public.write_bytes(public)
    for command in (("record-loss", "--yes"), ("retire", "requests")):
        assert "older copy" in here(project, "ledger", *command).refusal()
    assert project.released() == released
    ledger.write_bytes(new)
    assert here(project, *RUN).code == 0
    assert nonzero(project) == TRUE


def test_a_lost_state_is_refused_until_the_loss_is_recorded(project: Project, here: Callable[..., Finished]) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    released = project.released()
    (project.private / "state-0.duckdb").unlink()
    message = here(project, *RUN).refusal()
    assert "quietcount ledger record-loss" in message
    assert project.released() == released
    assert here(project, "ledger", "record-loss", "--yes").code == 0
    assert here(project, *RUN).code == 0
    assert released.items() <= project.released().items()
    answer = here(project, "query", "SELECT value FROM about WHERE key IN ('state_losses', 'bound') ORDER BY key").out
    assert "stays under epsilon 200" in answer
    assert "lost once." in answer
    assert "\n1\n" in answer


def test_another_secret_is_refused(project: Project, here: Callable[..., Finished]) -> None:
    project.emit(LINES)
    project.run_here("2023-02-08")
    secret = project.folder / "secrets" / "service"
    right = secret.read_bytes()
    secret.write_bytes(b"ab" * 32 + b"\n")
    assert "secret is another one" in here(project, *RUN).refusal()
    secret.write_bytes(right)
    assert here(project, *RUN).code == 0
    assert nonzero(project) == TRUE


@pytest.mark.quick
@pytest.mark.promise("log-replaced")
def test_a_log_that_lost_its_end_or_was_replaced_is_refused(project: Project, here: Callable[..., Finished]) -> None:
    project.emit(LINES[:100])
    log = project.private / "log.sqlite"
    old = log.read_bytes()
    project.emit(LINES[100:], "more.jsonl")
    project.run_here("2023-01-02")
    new = log.read_bytes()
    log.write_bytes(old)
    assert "older copy" in here(project, *RUN).refusal()
    log.unlink()
    assert "the log is another one" in here(project, *RUN).refusal()
    log.write_bytes(new)
    assert here(project, *RUN).code == 0
    assert nonzero(project) == TRUE


def test_a_damaged_public_file_is_refused_and_comes_back_once_moved_away(
    project: Project, here: Callable[..., Finished]
) -> None:
    project.run_here("2023-03-08")
    values = project.released()
    project.public.write_bytes(b"not a database" * 100)
    assert "Move it away" in here(project, *RUN).refusal()
    assert "Move it away" in here(project, "query", "SELECT 1").refusal()
    project.public.unlink()
    assert "nothing is published yet" in here(project, "query", "SELECT 1").refusal()
    assert here(project, *RUN).code == 0
    assert values.items() <= project.released().items()
    assert project.public.stat().st_mode & 0o777 == 0o644
