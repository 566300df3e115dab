"""The recipes of docs/recipes.md, taken from the page and run: as real servers, with workers that are killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.recipes.frameworks import Server, children, frameworks, recipe

from quietcount_producers import EmbeddedLog, EventSpool, Pepper, open_log
from quietcount_producers.settings import EmitterSettings
from quietcount_producers.spool.relay import relay_rest
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("recipes"), pytest.mark.promise("nothing-lost")]

CODEC = Codec(SchemaRegistry.load())
LONGEST = 60.0
REQUESTS = 60


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "quietcount.toml").write_text("")
    (tmp_path / "secrets").mkdir()
    Pepper.generate(tmp_path / "secrets" / "pepper")
    return tmp_path


def spooled(place: Path) -> None:
    (place / "quietcount.toml").write_text('[emitter]\nspool = "spool"\n')


def stored(place: Path) -> Counter[uuid.UUID]:
    """The ids of the events in the log, after what waits in a spool was sent there, and how often each is there."""
    settings = EmitterSettings.load(place / "quietcount.toml", {})
    if settings.spool is not None:
        with EventSpool(settings.spool) as spool:
            assert relay_rest(spool, lambda: open_log(settings))
    with EmbeddedLog(settings.log_file, create=False) as log:
        records = log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 10_000)
    return Counter(uuid.UUID(bytes=CODEC.decode(record.value).event_id) for record in records)


def post(port: int, **form: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
    try:
        connection.request("POST", "/help-requests", json.dumps(form), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def form_of(identity: uuid.UUID) -> dict[str, str]:
    return {"id": str(identity), "case": f"case {identity}", "day": "2023-10-03", "kind": "DESERTION"}


def answered(server: Server, count: int = REQUESTS, during: Callable[[int], None] = lambda _: None) -> set[uuid.UUID]:
    """Send requests from four threads, each again until it is answered; return the ids of all that were."""
    done: set[uuid.UUID] = set()
    wanted = [uuid.uuid4() for _ in range(count)]
    failures: list[str] = []
    until = time.monotonic() + LONGEST

    def send(mine: list[uuid.UUID]) -> None:
        for identity in mine:
            while identity not in done and time.monotonic() < until:
                try:
                    status, said = post(server.port, **form_of(identity))
                except (OSError, http.client.HTTPException):  # its worker was killed
                    time.sleep(0.02)
                    continue
                if status == 204:
                    done.add(identity)
                else:
                    failures.append(f"{status} {said}")
                    return

    threads = [threading.Thread(target=send, args=(wanted[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        during(len(done))
        time.sleep(0.005)
    assert failures == []
    assert len(done) == count, server.output.read_text()
    return done


def check(server: Server, place: Path) -> None:
    """What is answered is in the log once; what is wrong is refused without its value."""
    done = answered(server)
    status, said = post(server.port, **{**form_of(uuid.uuid4()), "case": "somebody", "kind": "somebody"})
    assert status == 422
    assert "help_kind" in said
    assert "somebody" not in said
    written = server.stop()
    assert server.process.returncode in (0, -signal.SIGTERM), written
    assert "Traceback" not in written
    assert "somebody" not in written
    assert stored(place) == Counter(done)


def test_flask_with_workers_of_gunicorn(root: Path, place: Path) -> None:
    (place / "flask_app.py").write_text(recipe(root, "flask_app.py"))
    with Server(place, "gunicorn", "--workers", "2", "--bind", "fd://FD", "flask_app:app") as server:
        check(server, place)


def test_gunicorn_that_preloads_loses_nothing_when_workers_are_killed(root: Path, place: Path) -> None:
    spooled(place)
    (place / "flask_app.py").write_text(recipe(root, "flask_app.py"))
    killed: set[int] = set()
    command = ("gunicorn", "--preload", "--workers", "2", "--bind", "fd://FD", "flask_app:app")
    with Server(place, *command) as server:

        def kill(done: int) -> None:
            if len(killed) < 3 and done > 15 * (len(killed) + 1):
                (worker, *_) = children(server.process.pid)
                killed.add(worker)
                os.kill(worker, signal.SIGKILL)

        done = answered(server, during=kill)
        assert len(killed) == 3
        server.stop()
    assert set(stored(place)) == done


def test_fastapi_with_workers_of_uvicorn(root: Path, place: Path) -> None:
    (place / "fastapi_app.py").write_text(recipe(root, "fastapi_app.py"))
    command = ("uvicorn", "--workers", "2", "--fd", "FD", "--no-access-log", "fastapi_app:app")
    with Server(place, *command) as server:
        check(server, place)


def test_django_with_gunicorn_that_preloads(root: Path, place: Path) -> None:
    (place / "views.py").write_text(recipe(root, "views.py"))
    (place / "site_settings.py").write_text(
        "from pathlib import Path\nBASE_DIR = Path(__file__).parent\nSECRET_KEY = 'trial'\n"
        "ROOT_URLCONF = 'site_urls'\nALLOWED_HOSTS = ['127.0.0.1']\n"
    )
    (place / "site_urls.py").write_text(
        "from django.urls import path\nimport views\nurlpatterns = [path('help-requests', views.help_request)]\n"
    )
    (place / "site_wsgi.py").write_text(
        "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
        "import views  # as a project does that checks its pages at the start\n"
    )
    command = ("gunicorn", "--preload", "--workers", "2", "--bind", "fd://FD", "site_wsgi:application")
    with Server(place, *command, environment={"DJANGO_SETTINGS_MODULE": "site_settings"}) as server:
        check(server, place)


RECORDS = """
import time
import types
import uuid

def find(number):
    time.sleep(0.03)  # so that the kill meets tasks on their way
    identity = uuid.UUID(int=number, version=4)
    return types.SimpleNamespace(case=str(number), day="2023-10-03", kind="DESERTION", event_id=identity)
"""
# A broker of files: two processes share it without a server.
BROKER_OF_FILES = """
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.worker_lost_wait = 0.5
"""


def test_celery_with_forked_workers_of_which_one_is_killed(root: Path, place: Path) -> None:
    spooled(place)
    (place / "queue").mkdir()
    (place / "tasks.py").write_text(recipe(root, "tasks.py") + BROKER_OF_FILES)
    (place / "records.py").write_text(RECORDS)
    environment = {"CELERY_BROKER": "filesystem://"}
    command = ("celery", "--app", "tasks", "worker", "--concurrency", "2", "--without-mingle", "--without-gossip")
    wanted = {uuid.UUID(int=number, version=4) for number in range(REQUESTS)}
    killed = 0
    with Server(place, *command, environment=environment) as server:
        subprocess.run(
            [sys.executable, "-c", f"import tasks\nfor n in range({REQUESTS}): tasks.help_request.delay(n)"],
            cwd=place,
            env={**os.environ, **environment, "PYTHONPATH": str(frameworks())},
            check=True,
            timeout=LONGEST,
        )
        until = time.monotonic() + LONGEST
        while (count := relayed(place)) < len(wanted) and time.monotonic() < until:
            if count and not killed:
                killed, *_ = children(server.process.pid)
                os.kill(killed, signal.SIGKILL)
            time.sleep(0.05)
        assert killed, server.output.read_text()
    assert set(stored(place)) == wanted  # also what Celery has not ended in order: its own end takes seconds


def relayed(place: Path) -> int:
    """How many events are in the log already."""
    log = open_log(EmitterSettings.load(place / "quietcount.toml", {}))
    assert isinstance(log, EmbeddedLog)
    with log:
        return log.end_offsets(CASE_EVENTS)[0]


def test_a_script_that_sigterm_ends_has_stored_what_it_read(root: Path, place: Path) -> None:
    (place / "script.py").write_text(recipe(root, "script.py"))
    process = subprocess.Popen([sys.executable, "script.py"], cwd=place, stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    try:
        process.stdin.write("".join(f"case{number} 2023-10-03\n" for number in range(5)))
        process.stdin.flush()
        until = time.monotonic() + LONGEST
        while relayed(place) == 0 and time.monotonic() < until:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(LONGEST) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
    assert len(stored(place)) == 5


def test_the_test_of_the_page_passes_and_fails_if_nothing_is_emitted(root: Path, place: Path) -> None:
    test = place / "test_service.py"
    text = recipe(root, "test_service.py")
    for mutant, code in ((text, 0), (text.replace('"DESERTION")\n', '"SURRENDER")\n', 1), 1)):
        test.write_text(mutant)
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", test.name], cwd=place, capture_output=True)
        assert done.returncode == code, done.stdout
