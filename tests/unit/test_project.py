"""What must be true of the files themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from devtools import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CONSTRAINTS = sorted((ROOT / "constraints").glob("*.txt"))


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """Read every file that is under version control."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("an unpacked release is not under version control")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return {str(file.relative_to(ROOT)): file.read_text(errors="replace") for file in files if file.is_file()}


# Taken apart, or this file would hold them.
@pytest.mark.parametrize(
    "parts", [("/wo", "rk/"), ("/tm", "p/w/"), ("pypi", ".org"), ("files.python", "hosted")]
)
def test_no_file_knows_the_machine_it_was_written_on(parts: tuple[str, str], tracked: dict[str, str]) -> None:
    word = "".join(parts)
    assert [name for name, text in tracked.items() if word in text] == []


def test_nothing_that_is_made_is_under_version_control(tracked: dict[str, str]) -> None:
    made = re.compile(r"\.(pyc|db|log|egg-info)$|^(\.venv|build|dist|\.airflow|\.hypothesis)")
    assert [name for name in tracked if made.search(name)] == []


def test_there_are_constraints_for_each_airflow_and_for_the_lowest_versions() -> None:
    versions = ["2.11.2", "3.0.6", "3.1.8", "3.2.2", "3.3.2"]
    assert [file.stem for file in CONSTRAINTS] == [*(f"airflow-{version}" for version in versions), "lowest"]


@pytest.mark.parametrize("file", CONSTRAINTS, ids=lambda file: file.stem)
def test_each_constraint_is_one_version_and_no_address(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.match(r"[a-z0-9-]+==[0-9][\w.]*( ; |$)", line)] == []
    assert not re.search(r"://|@ |--(index|find|extra)", file.read_text())
