"""The page about receiving is true: its configuration, its mapping and its delivery are tried, its figures compared."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.doors import TOKEN, ask, configured, event_ids, inside, refused
from tests.unit.docs.test_commands import check

from quietcount_producers.commands.emit import emit_command
from quietcount_producers.commands.mapping import mapping_command
from quietcount_producers.receiving import places, server, tokens
from quietcount_producers.receiving.application import BODY_BYTES, HEADER_BYTES, Application
from quietcount_producers.receiving.bodies import DEEPEST, MOST_RECORDS
from quietcount_producers.receiving.reception import RELAY_WAIT
from quietcount_producers.receiving.settings import ReceiverSettings
from quietcount_schemas.configuration import KEYS

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "receiving.md").read_text("utf-8")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def project(folder: Path, page: str) -> Path:
    """The project that the page makes, with a token that is known here."""
    config = configured(folder)
    text, mapping, _ = blocks(page, "toml")
    config.write_text(text)
    (folder / "kobo.toml").write_text(mapping)
    (folder / "secrets" / "token").rename(folder / "secrets" / "receive-kobo")
    return config


def test_the_configuration_the_mapping_and_the_delivery_of_the_page_give_an_event(tmp_path: Path, page: str) -> None:
    config = project(tmp_path, page)
    (call,) = re.findall(r"curl -u kobo:.* http://127\.0\.0\.1:8787(\S+) .*?-d '(.*?)'", page, re.DOTALL)

    async def deliver(application: Application) -> int:
        return (await ask(application, call[1].encode(), path=call[0])).status

    assert inside(config, deliver) == 200
    assert refused(tmp_path) == []
    assert len(event_ids(tmp_path)) == 1


def test_what_was_refused_is_mended_and_emitted_as_the_page_says(
    tmp_path: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    good = {"_id": 1, "intake/file_number": "file 17", "start": "2023-10-03", "intake/reason": "legal"}
    bad = good | {"_id": 2, "start": "in autumn"}

    async def deliver(application: Application) -> int:
        return (await ask(application, json.dumps([good, bad]).encode())).status

    assert inside(config, deliver) == 200
    (kept,) = Path("spool/refused/kobo.jsonl").read_text().splitlines()
    assert "mv spool/refused/kobo.jsonl mended.jsonl" in page
    Path("mended.jsonl").write_text(kept.replace("in autumn", "2023-10-04") + "\n")
    Path("spool/refused/kobo.jsonl").unlink()
    (command,) = re.findall(r"`quietcount (emit mended[^`]*)`", page)
    for _ in range(2):
        done = CliRunner().invoke(emit_command, command.split()[1:])
        assert done.exit_code == 0, done.output
    ids = event_ids(tmp_path)
    assert (len(ids), len(set(ids))) == (3, 2)


def test_the_mapping_that_the_page_begins_with_works_as_it_stands(tmp_path: Path, page: str) -> None:
    config = project(tmp_path, page)
    (name,) = re.findall(r"mapping show (\S+) > kobo\.toml", page)
    (tmp_path / "kobo.toml").write_text(CliRunner().invoke(mapping_command, ["show", name]).output)
    statuses: list[dict[str, str]] = [
        {},
        {"uid": "validation_status_approved"},
        {"uid": "validation_status_not_approved"},
    ]
    records = [
        {"_id": number, "_uuid": "0f3c", "start": "2023-10-03T11:20:00.000+02:00", "_validation_status": status}
        for number, status in enumerate(statuses)
    ]

    async def deliver(application: Application) -> int:
        return (await ask(application, json.dumps(records).encode())).status

    assert inside(config, deliver) == 200
    assert refused(tmp_path) == []
    assert len(event_ids(tmp_path)) == 2


def test_the_page_has_every_key_of_the_section(tmp_path: Path, page: str) -> None:
    least, _, tls = blocks(page, "toml")
    given = tomllib.loads(least)["receive"] | tomllib.loads(tls)["receive"]
    assert given.keys() == KEYS["receive"].keys()
    assert given["path"][0].keys() == KEYS["receive.path"].keys()
    config = project(tmp_path, page)
    config.write_text(least.replace('listen = "127.0.0.1:8787"\n', tls.removeprefix("[receive]\n")))
    assert ReceiverSettings.load(config, {}).port == 8443


def test_the_page_s_figures_are_those_of_the_code(page: str) -> None:
    said = re.sub(r"\s+", " ", page)
    assert (BODY_BYTES, HEADER_BYTES) == (1 << 20, 16 << 10)
    for figure in (
        "the delivery has more than 1 MiB",
        "the header has more than 16 KiB",
        f"nested {DEEPEST} deep at most",
        f"of {MOST_RECORDS:,} records at most",
        f"A token has {tokens.LEAST} characters or more",
        f"{places.HEADER_SECONDS} seconds for a header, {places.BODY_SECONDS} for a body",
        f"and {places.IDLE_SECONDS} until its next request",
        f"Of more than {places.CONNECTIONS} connections",
        f"for {server.STOP_SECONDS} seconds at most",
    ):
        assert figure in said


def test_the_unit_checks_before_it_starts_and_waits_for_the_end(page: str) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(blocks(page, "ini")[0])
    service = unit["Service"]
    for key in ("ExecStartPre", "ExecStart"):
        folder, _, command = service[key].rpartition("/")
        assert folder == "/srv/emitter/venv/bin"
        assert check(command) == ("receive",)
    assert int(service["TimeoutStopSec"]) > server.STOP_SECONDS + RELAY_WAIT
    assert service["LimitCORE"] == "0"


def test_the_proxy_keeps_no_log_and_takes_what_the_door_takes(page: str) -> None:
    (proxy,) = blocks(page, "nginx")
    assert "access_log off;" in proxy
    assert "client_max_body_size 1m;" in proxy
    assert "proxy_pass http://127.0.0.1:8787;" in proxy


def test_the_token_that_the_page_draws_is_long_enough(page: str) -> None:
    (size,) = re.findall(r"openssl rand -hex (\d+)", page)
    assert 2 * int(size) >= tokens.LEAST
    assert TOKEN not in page
