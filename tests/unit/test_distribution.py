"""The contents of the wheel and of the source distribution."""

from __future__ import annotations

import email
import re
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from flit_core import buildapi

import airflow_provider_webcamconsult
from airflow_provider_webcamconsult.get_provider_info import get_provider_info
from devtools import ROOT

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

PACKAGE = airflow_provider_webcamconsult.__name__
METADATA = f"{PACKAGE}-{airflow_provider_webcamconsult.__version__}.dist-info"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the source distribution as build front ends do, but without network access."""
    folder = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        buildapi.build_wheel(str(folder))
        buildapi.build_sdist(str(folder))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> dict[str, bytes]:
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Message:
    return email.message_from_bytes(wheel[f"{METADATA}/METADATA"])


@pytest.fixture(scope="module")
def sdist(built: Path) -> set[str]:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_wheel_supports_any_python_3_and_platform(built: Path) -> None:
    (file,) = built.glob("*.whl")
    assert file.name.endswith("-py3-none-any.whl")


def test_wheel_contains_only_package_and_metadata(wheel: dict[str, bytes]) -> None:
    package = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / PACKAGE).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    metadata = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert wheel.keys() == package | {f"{METADATA}/{name}" for name in metadata}


def test_wheel_contains_py_typed_marker(wheel: dict[str, bytes]) -> None:
    assert f"{PACKAGE}/py.typed" in wheel


def test_wheel_has_entry_points_of_airflow_and_pytest(wheel: dict[str, bytes]) -> None:
    entry_points = wheel[f"{METADATA}/entry_points.txt"].decode().split()
    assert entry_points == [
        "[apache_airflow_provider]",
        f"provider_info={PACKAGE}.get_provider_info:get_provider_info",
        "[pytest11]",
        f"webcamconsult={PACKAGE}.sandbox.pytest_plugin",
    ]


def test_name_matches_provider_info(metadata: Message) -> None:
    # Airflow rejects a provider whose distribution has a different name.
    assert metadata["Name"] == get_provider_info()["package-name"]


def test_licence_is_an_spdx_expression(metadata: Message, wheel: dict[str, bytes]) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert b"Apache License" in wheel[f"{METADATA}/licenses/LICENSE"]


def test_no_dependency_has_an_upper_bound(metadata: Message) -> None:
    required = metadata.get_all("Requires-Dist", [])
    assert required
    versions = [requirement.partition(";")[0] for requirement in required]
    assert [version for version in versions if re.search("<|==|~=|!=", version)] == []


def test_readme_is_the_description(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload(decode=True)
    assert isinstance(description, bytes)
    assert description.strip() == (ROOT / "README.md").read_bytes().strip()


def test_sdist_contains_files_for_tests_and_documentation(sdist: set[str]) -> None:
    needed = {
        "CHANGELOG.rst",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "constraints/airflow-3.3.2.txt",
        "devtools/local_airflow.py",
        "docs/conf.py",
        "docs/images/booking-graph.svg",
        "example_dags/clients.csv",
        "example_dags/practice_export.csv",
        "noxfile.py",
        "pyproject.toml",
        "scripts/ui.py",
        "tests/conftest.py",
        "tests/system/dags/toy.py",
        "tests/unit/sandbox/webcamconsult-api.txt",
    }
    assert needed <= sdist


def test_sdist_contains_no_generated_files(sdist: set[str]) -> None:
    assert [name for name in sdist if re.search(r"\.pyc$|__pycache__|_build/|\.egg-info", name)] == []
