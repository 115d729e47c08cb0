"""Checks of the repository's files."""

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
    """Return the text of every file under version control."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("an unpacked release is not under version control")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return {str(file.relative_to(ROOT)): file.read_text(errors="replace") for file in files if file.is_file()}


# In parts, because this file must not contain them either.
@pytest.mark.parametrize(
    "parts", [("/wo", "rk/"), ("/tm", "p/w/"), ("pypi", ".org"), ("files.python", "hosted")]
)
def test_no_file_contains_local_paths_or_registry_hosts(
    parts: tuple[str, str], tracked: dict[str, str]
) -> None:
    word = "".join(parts)
    assert [name for name, text in tracked.items() if word in text] == []


def test_generated_files_are_not_under_version_control(tracked: dict[str, str]) -> None:
    generated = re.compile(r"\.(pyc|db|log|egg-info)$|^(\.venv|build|dist|\.airflow|\.hypothesis)")
    assert [name for name in tracked if generated.search(name)] == []


def test_constraints_exist_for_each_airflow_and_the_lowest_versions() -> None:
    versions = ["2.11.2", "3.0.6", "3.1.8", "3.2.2", "3.3.2"]
    assert [file.stem for file in CONSTRAINTS] == [*(f"airflow-{version}" for version in versions), "lowest"]


@pytest.mark.parametrize("file", CONSTRAINTS, ids=lambda file: file.stem)
def test_each_constraint_pins_one_version_without_url(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.match(r"[a-z0-9-]+==[0-9][\w.]*( ; |$)", line)] == []
    assert not re.search(r"://|@ |--(index|find|extra)", file.read_text())
