"""The sync operators: where rows come from, what is returned, and what Airflow and the files hold."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath

from airflow_provider_webcamconsult.api.sync_plan import MalformedRow
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultInputError,
    WebcamconsultSyncError,
    WebcamconsultSyncRejectedError,
)
from airflow_provider_webcamconsult.operators.clients import WebcamconsultSyncClientsOperator
from airflow_provider_webcamconsult.operators.row_files import read_rows
from airflow_provider_webcamconsult.operators.users import WebcamconsultSyncUsersOperator
from airflow_provider_webcamconsult.sync import run
from airflow_provider_webcamconsult.version_compat import AIRFLOW_VERSION, AirflowException
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Service

CSV = "reference_code,last_name,date_of_birth\nDL-1,Ester,1984-12-18\nDL-2,Jansen,\n"
ROWS = [{"reference_code": "DL-1", "last_name": "Ester"}, {"reference_code": "DL-2", "last_name": "Jansen"}]


def operator(rows: Any, **parameters: Any) -> Any:
    return WebcamconsultSyncClientsOperator(
        task_id="sync", rows=rows, **{"key": "reference_code", **parameters}
    )


def execute(rows: Any, task: TaskInstance | None = None, **parameters: Any) -> dict[str, int]:
    counts: dict[str, int] = operator(rows, **parameters).execute((task or TaskInstance(True)).context)
    return counts


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(folder: Path, text: str | bytes, name: str = "clients.csv") -> str:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


@pytest.mark.usefixtures("hook")
class TestRows:
    @pytest.mark.parametrize("kind", ["text", "path", "object storage path", "URL"])
    def test_file(self, service: Service, tmp_path: Path, kind: str) -> None:
        path: Any = write(tmp_path, CSV)
        if kind == "path":
            path = tmp_path / "clients.csv"
        elif kind == "object storage path":
            path = ObjectStoragePath(path)
        elif kind == "URL":
            path = f"file://{path}"
        assert execute(path)["created"] == 2
        assert [client["date_of_birth"] for client in service.records("clients")].count(None) == 1

    @pytest.mark.parametrize("path", ["clients.csv", Path("exports/clients.csv")], ids=str)
    def test_relative_path_is_refused(self, service: Service, path: Any) -> None:
        for rows, parameters in ((path, {}), (lambda _: ROWS, {"ids_path": path})):
            with pytest.raises(WebcamconsultInputError, match="is relative"):
                execute(rows, **parameters)
        assert service.records("clients") == []

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "missing.csv"
        with pytest.raises(
            FileNotFoundError, match=rf"There is no file \S*{path} with rows\. Check the path"
        ):
            execute(path)

    def test_callable_takes_the_context(self, service: Service) -> None:
        task = TaskInstance(True)
        found = []

        def rows(context: Any) -> Any:
            found.append(context["ti"])
            yield from ROWS

        assert execute(rows, task)["created"] == 2
        assert found == [task]

    def test_users(self, service: Service) -> None:
        sync = WebcamconsultSyncUsersOperator(
            task_id="sync", rows=lambda context: [{"email": "a@example.com", "last_name": "A"}]
        )
        assert sync.execute(TaskInstance(True).context)["created"] == 1

    @pytest.mark.parametrize("rows", [ROWS, None, 7, "", lambda context: None, lambda context: {"a": 1}])
    def test_anything_else_is_refused(self, service: Service, rows: Any) -> None:
        with pytest.raises(WebcamconsultInputError):
            execute(rows)
        assert service.requests == []


@pytest.mark.usefixtures("hook")
class TestResult:
    def test_is_the_counts_alone(self) -> None:
        assert execute(lambda context: [*ROWS, {"last_name": "without key"}], max_failures=1) == {
            "rows": 3,
            "created": 2,
            "updated": 0,
            "unchanged": 0,
            "deleted": 0,
            "failed": 1,
        }

    def test_errors_file_has_all_failures(self, tmp_path: Path) -> None:
        file = tmp_path / "errors.jsonl"
        bad = [{"reference_code": f"DL-{number}", "date_of_birth": "Purple"} for number in range(25)]
        with pytest.raises(WebcamconsultSyncError):
            execute(lambda context: bad, errors_path=str(file))
        errors = lines(file)
        assert [error["row"] for error in errors] == [*range(1, 26)]
        assert {"row": 1, "key": "DL-0", "attributes": ["date_of_birth"]}.items() <= errors[0].items()
        assert "Purple" not in file.read_text()

    def test_errors_file_is_emptied_by_a_run_without_failures(self, tmp_path: Path) -> None:
        file = tmp_path / "errors.jsonl"
        file.write_text('{"row": 1}\n')
        execute(lambda context: ROWS, errors_path=str(file))
        assert file.read_text() == ""

    def test_ids_file_has_key_and_id_of_each_row(self, service: Service, tmp_path: Path) -> None:
        file = tmp_path / "ids.jsonl"
        execute(lambda context: ROWS[:1])
        execute(lambda context: ROWS, ids_path=str(file))
        ids = {record["reference_code"]: record["id"] for record in service.records("clients")}
        assert {line["key"]: line["id"] for line in lines(file)} == ids

    def test_file_that_cannot_be_written_stops_the_task_before_it_writes(
        self, service: Service, tmp_path: Path
    ) -> None:
        (tmp_path / "not-a-folder").touch()
        with pytest.raises(OSError, match="not-a-folder"):
            execute(lambda context: ROWS, errors_path=str(tmp_path / "not-a-folder" / "errors.jsonl"))
        assert service.records("clients") == []

    def test_plan_writes_nothing(self, service: Service) -> None:
        assert execute(lambda context: ROWS, plan_only=True)["created"] == 2
        assert service.records("clients") == []


@pytest.mark.usefixtures("hook")
class TestEndByAirflow:
    @pytest.mark.skipif(AIRFLOW_VERSION < (3,), reason="Airflow 2 raises an exception itself")
    def test_stops_the_run_after_the_requests_in_progress(self, service: Service) -> None:
        sync = operator(lambda context: ({"reference_code": f"DL-{number}"} for number in range(5000)))
        before = signal.signal(signal.SIGTERM, lambda *_: sync.on_kill())  # as Airflow 3 does

        def end_after_first_create() -> None:
            while not service.records("clients"):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        ender = threading.Thread(target=end_after_first_create)
        ender.start()
        try:
            with pytest.raises(AirflowException, match="SIGTERM"):
                sync.execute(TaskInstance(True).context)
        finally:
            signal.signal(signal.SIGTERM, before)
            ender.join()
        time.sleep(0.5)  # a thread that was just being started may have one request in progress
        created = len(service.records("clients"))
        assert 0 < created < 5000
        time.sleep(0.2)
        assert len(service.records("clients")) == created

    def test_does_nothing_before_and_after_the_run(self) -> None:
        sync = operator(lambda context: ROWS)
        sync.on_kill()
        sync.execute(TaskInstance(True).context)
        sync.on_kill()


@pytest.mark.usefixtures("hook")
class TestMaxDeletes:
    @pytest.fixture(autouse=True)
    def _clients(self, hook: WebcamconsultHook) -> None:
        execute(lambda context: ROWS)

    @pytest.mark.parametrize("rendered", ["1", "0.5", 1, 0.5])
    def test_is_a_number_or_the_text_of_one(self, service: Service, rendered: Any) -> None:
        mirror: Any = {"mode": "mirror", "key_prefix": "DL-", "max_deletes": rendered}
        assert execute(lambda context: ROWS[:1], **mirror)["deleted"] == 1

    @pytest.mark.parametrize("rendered", ["0", "None", "5 %", ""])
    def test_other_text_and_a_lower_number_refuse_the_run(self, service: Service, rendered: str) -> None:
        mirror: Any = {"mode": "mirror", "key_prefix": "DL-", "max_deletes": rendered}
        with pytest.raises((WebcamconsultInputError, WebcamconsultSyncRejectedError)):
            execute(lambda context: ROWS[:1], **mirror)
        assert len(service.records("clients")) == 2


@pytest.mark.usefixtures("hook")
class TestRetries:
    @pytest.fixture(autouse=True)
    def _floor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run, "CREATE_FLOOR_SECONDS", 0.2)

    @pytest.mark.parametrize("has_store", [True, False])
    def test_retry_creates_only_what_is_missing(
        self, service: Service, has_store: bool, hook: WebcamconsultHook
    ) -> None:
        task = TaskInstance(has_store)
        hook.clients.create({"reference_code": "DL-1", "last_name": "Ester"})
        operator(lambda context: iter(())).execute(task.context)  # a try that read no rows
        task.retry()
        counts = execute(lambda context: ROWS, task)
        assert (counts["created"], counts["unchanged"]) == (1, 1)

    def test_store_holds_no_row(self, service: Service) -> None:
        task = TaskInstance(True)
        execute(lambda context: ROWS, task)
        assert not any(text in "".join(task.store.history) for text in ("DL-", "Ester"))


class TestAirflow:
    @pytest.mark.parametrize("kind", [WebcamconsultSyncClientsOperator, WebcamconsultSyncUsersOperator])
    def test_runs_one_sync_at_a_time_by_default(self, kind: Any) -> None:
        arguments = {"task_id": "sync", "rows": lambda context: ROWS, "key": "email"}
        assert kind(**arguments).max_active_tis_per_dag == 1
        assert kind(**arguments, max_active_tis_per_dag=None).max_active_tis_per_dag is None

    def test_path_is_a_template(self) -> None:
        with DAG("dag", schedule=None):
            task = operator("s3://exports/{{ ds }}.csv", errors_path="s3://exports/{{ ds }}.errors.jsonl")
        task.render_template_fields({"ds": "2026-01-31"})
        assert repr(task.rows) == "s3://exports/2026-01-31.csv"
        assert task.errors_path == "s3://exports/2026-01-31.errors.jsonl"

    def test_output_of_another_task_is_a_path(self) -> None:
        with DAG("dag", schedule=None):
            first = operator(lambda context: [], plan_only=True)
            second = WebcamconsultSyncClientsOperator(task_id="second", rows=first.output, key="email")
        assert second.upstream_task_ids == {"sync"}

    def test_callable_is_stored_by_name(self) -> None:
        def read_rows(context: Any) -> Any:
            return ROWS

        shown = repr(operator(read_rows).rows)
        assert shown.endswith("read_rows>")
        assert "0x" not in shown

    def test_rows_in_the_dag_are_not_shown(self) -> None:
        assert "Ester" not in repr(operator(ROWS).rows)

    def test_running_task_shows_no_rows(self) -> None:
        with DAG("dag", schedule=None):
            task = operator(ROWS)
        task.render_template_fields({})
        assert "Ester" not in repr(vars(task))


class TestFiles:
    def test_csv(self, tmp_path: Path) -> None:
        assert [*read_rows(write(tmp_path, CSV))] == [
            {"reference_code": "DL-1", "last_name": "Ester", "date_of_birth": "1984-12-18"},
            {"reference_code": "DL-2", "last_name": "Jansen", "date_of_birth": None},
        ]

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_csv_with_another_delimiter(self, tmp_path: Path, delimiter: str) -> None:
        text = "\ufeffinitials,last_name\r\n\r\nT,Ester\r\n".replace(",", delimiter)
        assert [*read_rows(write(tmp_path, text))] == [{"initials": "T", "last_name": "Ester"}]

    def test_csv_with_quotes(self, tmp_path: Path) -> None:
        text = 'initials,last_name\nT,"Ester, ""de""\nJansen"\n'
        assert [*read_rows(write(tmp_path, text))] == [{"initials": "T", "last_name": 'Ester, "de"\nJansen'}]

    @pytest.mark.parametrize("line", ['T,"Ester', 'T,"Ester" x'])
    def test_csv_with_a_stray_quote_is_an_error(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(WebcamconsultInputError, match="is not a valid CSV file"):
            [*read_rows(write(tmp_path, f"initials,last_name\n{line}\nT,Bakker\n"))]

    @pytest.mark.parametrize("line", ['T,"Ester\nJ,Bakker"', '"T\nJ,Bakker",Ester'])
    def test_csv_cell_that_looks_like_several_rows_is_malformed(self, tmp_path: Path, line: str) -> None:
        first, second = read_rows(write(tmp_path, f"initials,last_name\n{line}\nT,Ester\n"))
        assert isinstance(first, MalformedRow)
        assert second == {"initials": "T", "last_name": "Ester"}

    @pytest.mark.usefixtures("hook")
    def test_csv_without_a_header_has_no_value_in_the_error(self, tmp_path: Path) -> None:
        rows = write(tmp_path, "PS-1,Sander,Bender\nPS-2,Emil,Bakker\n")
        with pytest.raises(WebcamconsultSyncError) as raised:
            execute(rows)
        assert not any(name in str(raised.value) for name in ("Sander", "Bender", "Emil"))

    @pytest.mark.parametrize("line", ["T", "T,Ester,male"])
    def test_csv_row_with_another_number_of_cells_is_malformed(self, tmp_path: Path, line: str) -> None:
        first, second = read_rows(write(tmp_path, f"initials,last_name\n{line}\nT,Ester\n"))
        assert isinstance(first, MalformedRow)
        assert second == {"initials": "T", "last_name": "Ester"}

    @pytest.mark.parametrize("name", ["clients.jsonl", "clients.NDJSON"])
    def test_json_lines(self, tmp_path: Path, name: str) -> None:
        text = '{"reference_code": "DL-1", "division_ids": ["d1"]}\n\n[1]\n{"a": \n'
        first, second, third = read_rows(write(tmp_path, text, name))
        assert first == {"reference_code": "DL-1", "division_ids": ["d1"]}
        assert isinstance(second, MalformedRow)
        assert isinstance(third, MalformedRow)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("clients.xlsx", b""),
            ("clients.csv", b"a,a\n1,2\n"),
            ("clients.csv", b"a,,c\n1,2,3\n"),
            ("clients.csv", "last_name\nZoë\n".encode("cp1252")),
            ("clients.csv", b"last_name\n" + b"x" * 200_000),
        ],
    )
    def test_other_files_are_refused_without_showing_values(
        self, tmp_path: Path, name: str, content: bytes
    ) -> None:
        with pytest.raises(WebcamconsultInputError) as raised:
            [*read_rows(write(tmp_path, content, name))]
        assert raised.value.__context__ is None

    def test_empty_csv_has_no_rows(self, tmp_path: Path) -> None:
        assert [*read_rows(write(tmp_path, ""))] == []
