"""The stories of a newcomer's day: DAGs as a new user writes them, tested with the pytest plugin."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from airflow_provider_webcamconsult.sandbox import pytest_plugin
from devtools import ROOT

TESTS = 5
TIMEOUT = 300  # seconds


def test_each_story_does_what_it_tells(airflow_python: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(Path(__file__).parent / "stories", project)
    (project / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        # The environment's entry point may be of another checkout.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [airflow_python, "-m", "pytest", "-p", pytest_plugin.__name__, "-p", "no:cacheprovider"]

    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=TIMEOUT)

    assert re.search(rf"^=+ {TESTS} passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
