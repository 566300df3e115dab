"""Witnesses as real processes: a partner's whole story by files and over HTTP, and kill -9 between any two lines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import forking
from tests.e2e.projects import Project, ended
from tests.kafka.certificates import Authority
from tests.witness_world import Owner, partner_in
from tests.witnessed_projects import DECLARED, JANUARY, Witnessed

from quietcount_aggregates.ledger.signed_notes import SignedNote, VerifierKey
from quietcount_consumers.errors import WitnessRefused
from quietcount_consumers.witnessing.fetching import Unanswered, exchange
from quietcount_consumers.witnessing.partner import Partner
from quietcount_consumers.witnessing.requests import Request

pytestmark = [pytest.mark.check, pytest.mark.promise("witnessed")]

SIGNING = """
import os, signal, sys
from pathlib import Path
from quietcount_consumers.witnessing import memory
from quietcount_consumers.witnessing.partner import Partner
from quietcount_consumers.witnessing.requests import read_request

folder, request, stop, mutant = Path(sys.argv[1]), read_request(Path(sys.argv[2])), int(sys.argv[3]), sys.argv[4]
partner, lines = Partner(folder), 0
if mutant == "forgetful":
    memory.Writing.keep = lambda *_: None

def trace(frame, event, argument):
    global lines
    if "witnessing" not in frame.f_code.co_filename:
        return None
    if event == "line":
        lines += 1
        if lines == stop:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

sys.settrace(trace)
note = partner.cosign(request)
sys.settrace(None)
print(note.data, end="")
"""


def signs(partner: Partner, request: Request) -> bool:
    try:
        partner.cosign(request)
    except WitnessRefused:
        return False
    return True


def killed_at_each_line(folder: Path, mutant: str = "") -> tuple[int, list[int]]:
    """Kill a witness at each line of signing one history, and offer it another one of the same length afterwards.

    Returns how many lines there are, and those after which two histories were signed.
    """
    one, other = Owner(1), Owner(1)
    partner_in(folder / "fresh", "partner.example/w1", one).cosign(one.request())
    (folder / "request").write_bytes(one.grow(2).request(2).data)
    other.grow(2, "other")
    both, line = [], 0
    while True:
        line += 1
        shutil.rmtree(folder / "w", ignore_errors=True)
        shutil.copytree(folder / "fresh", folder / "w")
        child = forking.Popen(
            [sys.executable, "-c", SIGNING, str(folder / "w"), str(folder / "request"), str(line), mutant],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        end = ended(child)
        assert end.code in (0, -signal.SIGKILL), end.err
        partner = Partner(folder / "w")
        signed = [bool(end.out), signs(partner, other.request()), signs(partner, one.request())]
        assert signed[1] != signed[2], "it goes on with one of the two"
        if end.out and signed[1]:
            both.append(line)
        if end.code == 0 or both:
            return line, both


def test_a_witness_that_is_killed_between_any_two_lines_never_signs_two_histories(tmp_path: Path) -> None:
    lines, both = killed_at_each_line(tmp_path)
    print(lines, "lines")
    assert lines > 50
    assert both == []


def test_a_mutant_that_signs_what_it_did_not_remember_signs_two_histories(tmp_path: Path) -> None:
    assert killed_at_each_line(tmp_path, "forgetful")[1] != []


def run_in(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `quietcount` for a partner, who has no project."""
    return subprocess.run(
        [sys.executable, "-c", "from quietcount_schemas.cli import main; main()", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_partner_without_a_project_witnesses_by_files(tmp_path: Path) -> None:
    world = Witnessed(tmp_path)
    project, partner = world.project, tmp_path / "partner"
    partner.mkdir()
    made = run_in(partner, "witness", "init", "--name", "partner.example/w1")
    assert made.returncode == 0, made.stderr
    key = VerifierKey.parse(made.stdout.strip())
    project.config.write_text(
        f'{project.config.read_text()}\n[witnesses]\nrequire = 1\n[[witnesses.witness]]\nkey = "{key.text}"\n'
    )
    assert '"publication waits"' in project.run(DECLARED).err
    project.quietcount("ledger", "request", "-o", "../request").done()

    no = run_in(partner, "witness", "cosign", "../request", given="n\n")
    assert no.returncode == 1
    assert "quietcount.ledger/" in no.stderr
    assert no.stdout == ""
    yes = run_in(partner, "witness", "cosign", "../request", "-o", "../note", given="y\n")
    assert yes.returncode == 0, yes.stderr
    project.quietcount("ledger", "cosign", "../note").done()
    project.run(JANUARY)
    project.quietcount("ledger", "request", "-o", "../request").done()
    assert run_in(partner, "witness", "cosign", "../request", "-o", "../note").returncode == 0
    project.quietcount("ledger", "cosign", "../note").done()
    assert '"publication waits"' not in project.run(JANUARY).err
    assert project.released() == project.ledger_values()
    head = SignedNote.parse(project.quietcount("ledger", "head").done().out)
    assert head.verified(key) is not None
    assert head.data == project.public.with_suffix(".head").read_text()

    again = run_in(partner, "witness", "cosign", "../p/data/statistics.duckdb")
    assert again.returncode == 0, again.stderr
    other = Witnessed(tmp_path / "other").project
    other.run(DECLARED)
    wrong = run_in(partner, "witness", "cosign", "../other/p/data/statistics.duckdb", "--key", head_key(project))
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("Error: ")
    (shown,) = json.loads(run_in(partner, "witness", "show", "--format", "json").stdout)
    assert shown["key"] == head_key(project)


def head_key(project: Project) -> str:
    (row,) = json.loads(
        project.quietcount("query", "SELECT value FROM about WHERE key = 'signer'", "--format", "json").done().out
    )
    return str(row["value"])


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve a witness in a process of its own; the value is that and its address."""
    command = ["witness", "serve", "--dir", str(folder), "--listen", "127.0.0.1:0", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-c", "from quietcount_schemas.cli import main; main()", *command],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = re.search(r"(https?://127\.0\.0\.1:\d+)", process.stderr.readline())
        assert found is not None
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_over_tls_a_witness_answers_those_alone_who_trust_its_certificate(tmp_path: Path) -> None:
    owner = Owner()
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("witness", "127.0.0.1")
    files = ["--certificate", str(issued.certificate_file), "--key-file", str(issued.key_file)]
    body = owner.request().data
    with serving(tmp_path / "w", *files) as (_, url):
        assert url.startswith("https://")
        with pytest.raises(Unanswered, match="does not vouch for its certificate"):
            exchange(f"{url}/add-checkpoint", body, most=10_000, seconds=30)
        trusting = ssl.create_default_context(cafile=authority.file)
        reply = exchange(f"{url}/add-checkpoint", body, most=10_000, seconds=30, context=trusting)
        assert reply.status == 200
        signed = SignedNote.parse(f"{owner.note.text}\n".encode() + reply.body)
        assert signed.verified(partner.verifier_key) is not None


def test_over_http_a_project_goes_on_with_two_of_three_and_not_after_it_was_put_back(tmp_path: Path) -> None:
    world = Witnessed(tmp_path, partners=3)
    with serving(tmp_path / "w1") as (first, one), serving(tmp_path / "w2") as (second, two):
        world.name(require=2, urls=[one, two, "http://127.0.0.1:1"])
        world.project.run(DECLARED)
        world.snapshot(tmp_path / "before")
        world.project.run(JANUARY)
        out = world.project.released()
        assert out
        world.put_back(tmp_path / "before")
        refusal = world.project.quietcount("run", "--until-idle", "--as-of", JANUARY).refusal()
        assert "older copy" in refusal
        second.send_signal(signal.SIGKILL)
        second.wait()
        shutil.rmtree(world.project.folder)
        shutil.copytree(tmp_path / "before", world.project.folder)
        world.name(require=2, urls=[one, two, "http://127.0.0.1:1"])
        assert "holds a head" in world.project.quietcount("run", "--until-idle", "--as-of", JANUARY).refusal()
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=60) == 0
        assert first.stderr is not None
        assert first.stderr.read() == "Stopped.\n"
        away = world.project.quietcount("run", "--until-idle", "--as-of", JANUARY).refusal()
        assert "0 of 3 witnesses with an address answer, and 2 have to" in away
