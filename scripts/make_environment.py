"""Make a virtual environment with one Airflow and all that the tests need, or leave a good one as it is.

Usage: python make_environment.py FOLDER AIRFLOW_VERSION

Run by the Makefile with the interpreter that the environment shall have. Everything that is installed is
pinned by `constraints/airflow-AIRFLOW_VERSION.txt`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

STAMP = ".installed"
"""Written into the environment when it is complete; without it the next run begins again."""


def digest(*parts: bytes) -> str:
    """Return one digest of the parts, whatever their lengths."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep two set-ups from writing into the same folder; a lock on the checkout itself needs no file."""
    handle = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def install(python: Path, *arguments: str) -> None:
    """Run the environment's own pip, which shows only errors."""
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--progress-bar=off",
    ]
    subprocess.run([*command, *arguments], check=True, cwd=ROOT)


def make_environment(folder: Path, airflow_version: str) -> None:
    """Bring the environment up to date with its interpreter, the constraints and `pyproject.toml`."""
    constraints = ROOT / "constraints" / f"airflow-{airflow_version}.txt"
    # A change of the interpreter or the pins begins again, so that nothing of the old set stays behind;
    # a change of pyproject.toml alone (a linter's rule, say) installs over what is there.
    base = digest(sys.version.encode(), os.path.realpath(sys.executable).encode(), constraints.read_bytes())
    complete = digest((ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes())
    stamp = folder / STAMP
    found = stamp.read_text().split() if stamp.is_file() else []
    if found == [base, complete]:
        return

    begin = time.monotonic()
    print(
        f"Installing Airflow {airflow_version} on Python {sys.version.split()[0]} into {folder.name} "
        "(a few minutes the first time)",
        flush=True,
    )
    stamp.unlink(missing_ok=True)
    python = folder / "bin" / "python"
    if found[:1] != [base]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pins = f"--constraint={constraints}"
    # In this order: the new pip reads dependency groups, and the group "build" stands in for build isolation,
    # which would fetch without pins.
    install(python, pins, "--upgrade", "pip")
    install(python, pins, "--group=build")
    airflow = f"apache-airflow=={airflow_version}"
    install(python, pins, "--no-build-isolation", airflow, "--group=dev", "--editable=.[sandbox]")
    stamp.write_text(f"{base} {complete}\n")
    print(f"{folder.name} is ready after {time.monotonic() - begin:.0f} s", flush=True)


def main() -> int:
    """Read the command line; say in one line what went wrong."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with one_at_a_time():
            make_environment(ROOT / sys.argv[1], sys.argv[2])
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd)
        print(f"make_environment: exit status {error.returncode} of: {command}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make_environment: interrupted; the next run begins again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
