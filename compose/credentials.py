"""Make what is secret, once, at the first start.

A password for each role on Kafka, the emitters' pepper, and what Prometheus asks the service with. Each role has a
folder of its own, which is a volume of its own: no container sees what is another's. What is there is kept; with
--renew-monitoring the certificate and the password of the metrics are made again. The service's secret is not among
them: the service makes it itself, and --workers copies it for workers.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import sys
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from quietcount_producers.composing.pseudonyms import Pepper

FOLDER = Path("/var/lib/quietcount/secrets")
ROLES = ("administrator", "emitter", "operator", "releaser", "service", "worker")
WAIT_SECONDS = 60
MONITORING = "monitoring"
"""The client that asks for metrics has a folder too, and no password on Kafka."""
PASSWORD_FILE = "kafka-password"  # noqa: S105 (a name)

# The service's key and certificate lie in one file: two could be read during their renewal, and would not match.
METRICS_PEM, METRICS_CA = "metrics.pem", "metrics-ca.pem"
METRICS_PASSWORD = "metrics-password"  # noqa: S105 (a name)
NAMES = ("quietcount", "localhost")
"""As Prometheus calls the service, and as the service's own health check does."""
# Nobody but Prometheus trusts it, and it trusts this one alone: what an early end would bring is blindness.
VALID_DAYS = 3650

_OWN, _GROUP = 0o600, 0o640  # Prometheus runs as another user, and is in the group


def password() -> bytes:
    """Return 256 random bits as text and a line end."""
    return secrets.token_urlsafe(32).encode("ascii") + b"\n"


def _draft(path: Path, content: bytes, mode: int) -> Path:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # of a start that was cut off
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWN), "wb") as file:
        os.fchmod(file.fileno(), mode)  # under any umask
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path`, mode 0600, whole or not at all; an existing file is never replaced."""
    draft = _draft(path, content, _OWN)
    os.link(draft, path)
    draft.unlink()


def replace(path: Path, content: bytes, mode: int = _OWN) -> None:
    """Put `content` in the place of the file at `path`: at each moment it is the old one or the new one, whole."""
    _draft(path, content, mode).replace(path)


def key_and_certificate() -> bytes:
    """Return a new key and its certificate for NAMES, signed by itself, in PEM form."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAMES[0])])
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))  # a clock may be behind
        .not_valid_after(today + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in NAMES]), critical=False)
        # It vouches for itself and for no other.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()  # its file is a secret as the passwords' are
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def certificate_in(pem: bytes) -> bytes:
    """Return the certificate of `pem`, without the key that lies beside it. ValueError where there is none."""
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.PEM)


def make_monitoring(folder: Path, *, renew: bool = False) -> list[Path]:
    """Make what the service answers Prometheus with, and give Prometheus its share of it. OSError, ValueError."""
    made = []
    pem, word = folder / "service" / METRICS_PEM, folder / "service" / METRICS_PASSWORD
    for path, make in ((pem, key_and_certificate), (word, password)):
        if renew or not path.exists():
            replace(path, make())
            made.append(path)
    ca, its_word = folder / MONITORING / METRICS_CA, folder / MONITORING / METRICS_PASSWORD
    for path, content in ((ca, certificate_in(pem.read_bytes())), (its_word, word.read_bytes())):
        if not path.exists() or path.read_bytes() != content:
            replace(path, content, _GROUP)
            made.append(path)
    return made


def make_credentials(folder: Path, *, renew_monitoring: bool = False) -> list[Path]:
    """Make each secret of `folder` that is missing, and return the paths of what was made. OSError, ValueError."""
    made = []
    for role in ROLES:
        path = folder / role / PASSWORD_FILE
        if not path.exists():
            write(path, password())
            made.append(path)
    pepper = folder / "emitter" / "pepper"
    if not pepper.exists():
        Pepper.generate(pepper)
        made.append(pepper)
    return made + make_monitoring(folder, renew=renew_monitoring)


def make_for_workers(folder: Path) -> list[Path]:
    """Give workers the service's secret, nothing else of the service's, and what they serve metrics with. OSError."""
    secret, made = folder / "service" / "secret", []
    for _ in range(WAIT_SECONDS):  # it is made by the first start of the service, which may have begun a moment ago
        if secret.exists():
            break
        time.sleep(1)
    for name, make in (
        ("secret", secret.read_bytes),
        (METRICS_PEM, key_and_certificate),
        (METRICS_PASSWORD, password),
    ):
        path = folder / "worker" / name
        if not path.exists():
            write(path, make())
            made.append(path)
    return made


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Make what is missing and say what was made, never what is in it."""
    if arguments not in ([], ["--renew-monitoring"], ["--workers"]):
        sys.stderr.write("usage: credentials.py [--renew-monitoring | --workers]\n")
        return 2
    try:
        if arguments == ["--workers"]:
            made = make_for_workers(folder)
        else:
            made = make_credentials(folder, renew_monitoring=bool(arguments))
    except OSError as error:
        sys.stderr.write(f"{error.filename}: cannot be made: {os.strerror(error.errno or 0)}\n")
        return 1
    except ValueError:
        damaged = folder / "service" / METRICS_PEM
        sys.stderr.write(f"{damaged}: holds no certificate; run this again with --renew-monitoring\n")
        return 1
    for path in made:
        sys.stderr.write(f"made {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
