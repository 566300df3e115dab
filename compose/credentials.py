"""Make what is secret, once, at the first start: a password for each role on Kafka, and the emitters' pepper.

Each role has a folder of its own, which is a volume of its own: no container sees what is another's. What is there is
kept. The service's secret is not among them: the service makes it itself.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from quietcount_producers.pseudonyms import Pepper

FOLDER = Path("/var/lib/quietcount/secrets")
ROLES = ("administrator", "emitter", "operator", "service")
PASSWORD_FILE = "kafka-password"  # noqa: S105 (a name)


def write_password(path: Path) -> None:
    """Write 256 random bits to `path`, mode 0600, whole or not at all; an existing file is never replaced."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # of a start that was cut off
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.link(draft, path)
    draft.unlink()


def make_credentials(folder: Path) -> list[Path]:
    """Make each secret of `folder` that is missing, and return the paths of those that were made. OSError."""
    made = []
    for role in ROLES:
        password = folder / role / PASSWORD_FILE
        if not password.exists():
            write_password(password)
            made.append(password)
    pepper = folder / "emitter" / "pepper"
    if not pepper.exists():
        Pepper.generate(pepper)
        made.append(pepper)
    return made


def main() -> int:
    """Make what is missing and say what was made, never what is in it."""
    try:
        made = make_credentials(FOLDER)
    except OSError as error:
        sys.stderr.write(f"{error.filename}: cannot be made: {os.strerror(error.errno or 0)}\n")
        return 1
    for path in made:
        sys.stderr.write(f"made {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
