"""The data file of a sandbox: only one sandbox uses it at a time, and a kill damages nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_webcamconsult.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.sandbox.conftest import Api

COMMAND = [sys.executable, "-m", "airflow_provider_webcamconsult.sandbox", "--port", "0", "--data"]
IN_USE = r"data\.json is in use by another sandbox.*Stop that sandbox, or use another data file"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data.json"


def start_command(data: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Return the process of a sandbox and its connection."""
    process = subprocess.Popen(
        [*COMMAND, str(data)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("export"):
            connection: dict[str, Any] = json.loads(line.partition("=")[2].strip().strip("'"))
            return process, connection
    raise AssertionError("The sandbox did not start.")


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=30)


# One sandbox at a time


def test_a_second_sandbox_of_the_same_process_is_refused_and_the_first_keeps_its_writes(
    access: type[Api], data: Path
) -> None:
    with Sandbox(data=data) as sandbox:
        before = data.read_bytes()
        with pytest.raises(SandboxError, match=IN_USE):
            Sandbox(data=data)
        assert data.read_bytes() == before
        access(sandbox).create("user", last_name="Akkermans")
    with Sandbox(data=data) as again:
        assert [user["last_name"] for user in again.records("users")] == ["Akkermans"]


def test_a_sandbox_uses_its_file_before_it_is_started(data: Path) -> None:
    sandbox = Sandbox(data=data)
    with pytest.raises(SandboxError, match=IN_USE):
        Sandbox(data=data)
    sandbox.stop()
    Sandbox(data=data).stop()


@pytest.mark.parametrize("link", [os.symlink, None], ids=["symbolic link", "relative path"])
def test_another_spelling_of_the_path_is_the_same_file(
    link: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    with Sandbox(data=data):
        if link:
            link(data, "other.json")
        with pytest.raises(SandboxError, match=IN_USE):
            Sandbox(data="other.json" if link else "data.json")


def test_two_files_in_one_folder_are_two_files(data: Path) -> None:
    with Sandbox(data=data), Sandbox(data=data.with_name("other.json")):
        pass


def test_a_second_command_is_refused_in_one_clear_line(data: Path) -> None:
    process, _ = start_command(data)
    try:
        second = subprocess.run(
            [*COMMAND, str(data)], capture_output=True, text=True, timeout=60, check=False
        )
        with pytest.raises(SandboxError, match=IN_USE):
            Sandbox(data=data)
    finally:
        kill(process)
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.splitlines() == [
        f"python -m airflow_provider_webcamconsult.sandbox: The data file {data} is in use by another "
        "sandbox, so this sandbox was not started. Stop that sandbox, or use another data file."
    ]
    Sandbox(data=data).stop()


def test_of_many_that_start_and_stop_at_once_only_one_has_the_file(data: Path) -> None:
    """Starts and stops race, so that a lock file is removed between another's opening and locking it."""
    users: list[int] = []
    most: list[int] = []

    def use() -> None:
        for _ in range(100):
            try:
                sandbox = Sandbox(data=data)
            except SandboxError:
                continue
            users.append(1)
            most.append(len(users))
            users.pop()
            sandbox.stop()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert [*data.parent.iterdir()] == [data]


def test_a_stopped_sandbox_leaves_the_file_to_the_next_and_reads_it_again_when_started(
    access: type[Api], data: Path
) -> None:
    one = Sandbox(data=data)
    one.start()
    appointment = access(one).create("appointment")
    one.stop()
    with Sandbox(data=data) as two:
        with pytest.raises(SandboxError, match=IN_USE):
            one.start()
        access(two).create("user", last_name="Akkermans")
        with pytest.raises(RuntimeError, match=r"was not saved.*Call start\(\)"):
            one.set_state(appointment["id"], "finished")
    one.start()
    access(one).create("user", last_name="Bakker")
    one.stop()
    with Sandbox(data=data) as three:
        assert [user["last_name"] for user in three.records("users")] == ["Akkermans", "Bakker"]
        assert three.records("appointments")[0]["state"] == "idle"


@pytest.mark.parametrize("content", [None, "{"], ids=["port in use", "damaged file"])
def test_a_sandbox_that_cannot_start_leaves_the_file_to_the_next(content: str | None, data: Path) -> None:
    if content:
        data.write_text(content)
        with pytest.raises(SandboxError, match="damaged"):
            Sandbox(data=data)
        data.unlink()
    else:
        with Sandbox() as other:
            sandbox = Sandbox(data=data, port=int(other.url.rpartition(":")[2]))
            with pytest.raises(SandboxError, match="in use"):
                sandbox.start()
    Sandbox(data=data).stop()


def test_a_process_that_was_forked_does_not_hold_the_file_after_the_stop(data: Path) -> None:
    sandbox = Sandbox(data=data)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=signal.pause)
    child.start()
    try:
        sandbox.stop()
        Sandbox(data=data).stop()
    finally:
        child.kill()
        child.join()


# After a kill


@pytest.mark.parametrize("moment", ["json.dump", "os.replace"])
def test_a_sandbox_killed_in_a_write_leaves_a_private_file_that_the_next_one_removes(
    moment: str, data: Path
) -> None:
    code = f"""
import json, os, signal, sys
from airflow_provider_webcamconsult.sandbox.service import USERS, Service
os.umask(0)
service = Service(["token"], "idle", sys.argv[1])
{moment} = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
service.create(USERS, "token", "", {{"user": {{"city": "Ergens"}}}})
"""
    done = subprocess.run([sys.executable, "-c", code, str(data)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = data.parent.glob("*.tmp")
    for file in data.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    with Sandbox(data=data) as sandbox:
        assert not left.exists()
        assert sandbox.records("users") == []
    assert [*data.parent.iterdir()] == [data]


def test_nothing_is_lost_or_left_when_a_sandbox_is_killed_again_and_again_while_it_writes(
    data: Path,
) -> None:
    answered: list[str] = []

    def write(connection: dict[str, Any]) -> None:
        headers = {"Authorization": f"Token token={connection['password']}"}
        with requests.Session() as session:
            while True:
                try:
                    response = session.post(
                        f"{connection['host']}/clients.json",
                        json={"client": {"last_name": "x" * 100_000}},
                        headers=headers,
                        timeout=30,
                    )
                    answered.append(response.json()["client"]["id"])
                except (requests.RequestException, ValueError):
                    return

    for _ in range(4):
        process, connection = start_command(data)
        writers = [threading.Thread(target=write, args=(connection,)) for _ in range(2)]
        for writer in writers:
            writer.start()
        enough = len(answered) + 10
        while len(answered) < enough and any(writer.is_alive() for writer in writers):
            time.sleep(0.001)
        kill(process)
        for writer in writers:
            writer.join()
        json.loads(data.read_bytes())
    with Sandbox(data=data) as sandbox:
        assert not [*data.parent.glob("*.tmp")]
        assert {*answered} <= {client["id"] for client in sandbox.records("clients")}
    assert [*data.parent.iterdir()] == [data]


def test_a_planted_link_in_the_place_of_the_temporary_or_the_lock_file_is_not_followed(
    access: type[Api], data: Path
) -> None:
    target = data.parent / "target"
    target.write_text("precious")
    temporary, lock = (data.parent / f".data.json.{ending}" for ending in ("tmp", "lock"))
    temporary.symlink_to(target)
    with Sandbox(data=data) as sandbox:
        access(sandbox).create("user")
        assert not temporary.is_symlink()
    lock.symlink_to(target)
    with pytest.raises(SandboxError, match="Cannot write the data file"):
        Sandbox(data=data)
    assert target.read_text() == "precious"
