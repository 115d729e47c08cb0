"""
Create or update a virtual environment with one Airflow and everything that the tests need.

Usage: python make_environment.py FOLDER AIRFLOW_VERSION

Run by the Makefile with the interpreter for the environment. `constraints/airflow-AIRFLOW_VERSION.txt` pins
all packages.
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
"""File that marks a complete environment. Without it, the next run starts over."""


def digest(*parts: bytes) -> str:
    """Return one digest of all parts."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one run at a time write to the environments. The lock is on the checkout's folder."""
    handle = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def install(python: Path, *arguments: str) -> None:
    """Run the environment's pip, which prints only errors."""
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
    """Create the environment, or update it after a change of interpreter, constraints or `pyproject.toml`."""
    constraints = ROOT / "constraints" / f"airflow-{airflow_version}.txt"
    # A change of the interpreter or the pins recreates the environment, so that no old packages remain. A
    # change of only pyproject.toml (a linter's rule, say) updates it.
    base = digest(sys.version.encode(), os.path.realpath(sys.executable).encode(), constraints.read_bytes())
    complete = digest((ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes())
    stamp = folder / STAMP
    found = stamp.read_text().split() if stamp.is_file() else []
    if found == [base, complete]:
        return

    begin = time.monotonic()
    print(
        f"Installing Airflow {airflow_version} on Python {sys.version.split()[0]} into {folder.name} "
        "(takes a few minutes the first time)",
        flush=True,
    )
    stamp.unlink(missing_ok=True)
    python = folder / "bin" / "python"
    if found[:1] != [base]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pins = f"--constraint={constraints}"
    # In this order: only the new pip reads dependency groups, and the group "build" replaces build isolation,
    # which would ignore the pins.
    install(python, pins, "--upgrade", "pip")
    install(python, pins, "--group=build")
    airflow = f"apache-airflow=={airflow_version}"
    install(python, pins, "--no-build-isolation", airflow, "--group=dev", "--editable=.[sandbox]")
    stamp.write_text(f"{base} {complete}\n")
    print(f"{folder.name} is ready after {time.monotonic() - begin:.0f} s", flush=True)


def main() -> int:
    """Run the command line, and print failures in one line."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with one_at_a_time():
            make_environment(ROOT / sys.argv[1], sys.argv[2])
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd)
        print(f"make_environment: `{command}` exited with status {error.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make_environment: interrupted; the next run starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
