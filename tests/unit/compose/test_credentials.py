"""compose/: the secrets of each role, made once, kept, and renewed where monitoring needs them."""

from __future__ import annotations

import stat
from pathlib import Path
from types import ModuleType

import pytest
from tests.unit.compose.compose_documents import credentials

from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.errors import ProducersError

pytestmark = pytest.mark.quick

__all__ = ["credentials"]  # the fixture


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


METRICS = {
    "service/metrics.pem",
    "service/metrics-password",
    "monitoring/metrics-ca.pem",
    "monitoring/metrics-password",
}


def test_secrets_are_made_once_private_and_are_kept(credentials: ModuleType, tmp_path: Path) -> None:
    made = credentials.make_credentials(tmp_path)
    assert len(made) == 11
    texts = contents(tmp_path)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in made}
    assert modes == {name: 0o640 if name.startswith("monitoring/") else 0o600 for name in texts}
    assert len(set(texts.values())) == 10  # one password is Prometheus' and the service's
    assert texts["service/metrics-password"] == texts["monitoring/metrics-password"]
    assert min(len(text) for text in texts.values()) > 40
    Pepper.load(tmp_path / "emitter" / "pepper")
    with pytest.raises(ProducersError):
        Pepper.load(tmp_path / "service" / "pepper")
    assert credentials.make_credentials(tmp_path) == []
    assert contents(tmp_path) == texts


def test_workers_get_the_services_secret_and_no_other_of_its_files(
    credentials: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "WAIT_SECONDS", 0)
    credentials.make_credentials(tmp_path)
    assert credentials.main(["--workers"], tmp_path) == 1, "the service has not made it yet"
    assert "secret: cannot be" in capsys.readouterr().err
    (tmp_path / "service" / "secret").write_bytes(b"the service's own")
    (tmp_path / "service" / "secret-signing").write_bytes(b"the releaser's alone")
    assert credentials.main(["--workers"], tmp_path) == 0
    texts = contents(tmp_path / "worker")
    assert texts.keys() == {"kafka-password", "secret", "metrics.pem", "metrics-password"}
    assert texts["secret"] == b"the service's own"
    assert not set(texts.values()) & set(contents(tmp_path / "service").values()) - {b"the service's own"}
    assert credentials.main(["--workers"], tmp_path) == 0
    assert contents(tmp_path / "worker") == texts


def test_a_start_that_was_cut_off_leaves_no_half_secret(credentials: ModuleType, tmp_path: Path) -> None:
    for write in (credentials.write, credentials.replace):
        secret = tmp_path / write.__name__ / "secret"
        secret.parent.mkdir()
        secret.with_name(".secret.new").write_text("half of an earlier one")
        write(secret, b"whole")
        assert contents(secret.parent) == {"secret": b"whole"}
    with pytest.raises(FileExistsError):
        credentials.write(tmp_path / "write" / "secret", b"another")


def test_prometheus_has_the_certificate_and_the_password_and_not_the_key(
    credentials: ModuleType, tmp_path: Path
) -> None:
    credentials.make_credentials(tmp_path)
    assert not any(b"PRIVATE KEY" in text for text in contents(tmp_path / "monitoring").values())
    assert b"PRIVATE KEY" in (tmp_path / "service" / "metrics.pem").read_bytes()


def test_what_monitoring_needs_is_renewed_and_nothing_else(credentials: ModuleType, tmp_path: Path) -> None:
    credentials.make_credentials(tmp_path)
    before = contents(tmp_path)
    assert credentials.main(["--renew-monitoring"], tmp_path) == 0
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == METRICS
    assert after["service/metrics-password"] == after["monitoring/metrics-password"]
    assert after["service/metrics.pem"].endswith(after["monitoring/metrics-ca.pem"])


def test_a_renewal_that_was_cut_off_is_finished_by_the_next_start(credentials: ModuleType, tmp_path: Path) -> None:
    credentials.make_credentials(tmp_path)
    old = contents(tmp_path)
    credentials.make_credentials(tmp_path, renew_monitoring=True)
    new = contents(tmp_path)
    for name in METRICS:
        if name.startswith("monitoring/"):
            (tmp_path / name).write_bytes(old[name])
    credentials.make_credentials(tmp_path)
    assert contents(tmp_path) == new


def test_a_damaged_certificate_and_a_wrong_argument_are_one_sentence(
    credentials: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "service" / "metrics.pem").write_text("half", encoding="ascii")
    assert credentials.main([], tmp_path) == 1
    assert "metrics.pem: holds no certificate" in capsys.readouterr().err
    assert credentials.main(["--renew-monitoring"], tmp_path) == 0
    assert credentials.main(["--renew"], tmp_path) == 2
