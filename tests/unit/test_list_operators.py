"""The operators that list: which records they return, and the files that they write."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath
from airflow.serialization.helpers import serialize_template_field

from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConfigurationError,
    WebcamconsultConnectionError,
    WebcamconsultInputError,
    WebcamconsultResponseError,
)
from airflow_provider_webcamconsult.operators import base, record_files
from airflow_provider_webcamconsult.operators.appointments import (
    WebcamconsultCreateAppointmentOperator,
    WebcamconsultListAppointmentsOperator,
)
from airflow_provider_webcamconsult.operators.clients import WebcamconsultListClientsOperator

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
    from tests.unit.conftest import Connect, Log, Serve

KEY = "a key for pseudonyms"
CLIENTS: list[dict[str, Any]] = [
    {"id": "c1", "last_name": "Ester", "email": "ester@example.com", "division_ids": ["d1"]},
    {"id": "c2", "last_name": 'de "Vries", É', "email": None, "division_ids": []},
    {"id": "c3", "last_name": "Bakker\nJr", "email": "bakker@example.com"},
]
FIELDS = ["id", "last_name", "division_ids"]


@pytest.fixture
def clients(serve: Serve, connect: Connect) -> WebcamconsultHook:
    """A service that has three clients."""
    return connect(serve({"body": CLIENTS}).url)


def list_clients(context: Any = None, **arguments: Any) -> Any:
    operator: Any = WebcamconsultListClientsOperator(task_id="task", **arguments)
    return operator.execute(context or {})


def rendered(operator: Any, **context: Any) -> Any:
    operator.render_template_fields(context)
    return operator


@pytest.mark.usefixtures("clients")
class TestWhere:
    def test_selects_records(self) -> None:
        assert list_clients(fields=["id"], where={"email": ["ester@example.com", None]}) == [
            {"id": "c1"},
            {"id": "c2"},
        ]

    @pytest.mark.parametrize(("arguments", "verb"), [({}, "Selected"), ({"path": "c.jsonl"}, "Wrote")])
    def test_that_selects_nothing_is_logged_with_the_number_of_all(
        self, arguments: Any, verb: str, tmp_path: Path, log: Log
    ) -> None:
        if arguments:
            arguments = {"path": str(tmp_path / arguments["path"])}
        list_clients(where={"id": "c4"}, **arguments)
        assert f"{verb} 0 of 3 clients" in log.text

    def test_may_be_a_callable_that_runs_in_the_task(self) -> None:
        context = {"params": {"division": "d1"}}
        where = lambda context: {"division_ids": context["params"]["division"]}  # noqa: E731
        assert list_clients(context, fields=["id"], where=where) == [{"id": "c1"}]

    def test_is_rendered(self) -> None:
        operator = WebcamconsultListClientsOperator(task_id="task", where={"last_name": "{{ params.name }}"})
        (client,) = rendered(operator, params={"name": "Ester"}).execute({})
        assert client["id"] == "c1"

    def test_stores_personal_values_masked(self) -> None:
        operator = WebcamconsultListClientsOperator(task_id="task", where={"last_name": "{{ params.name }}"})
        rendered(operator, params={"name": "Ester"})
        assert serialize_template_field(operator.where, "where") in (
            {"last_name": "***"},
            str({"last_name": "***"}),
        )
        assert "Ester" not in str(vars(operator))

    def test_template_without_value_selects_nothing_by_mistake(self) -> None:
        operator = WebcamconsultListClientsOperator(task_id="task", where={"email": "{{ none }}"})
        with pytest.raises(WebcamconsultInputError, match="stands for a missing value"):
            rendered(operator).execute({})

    @pytest.mark.parametrize("where", [{"email": "{{ params.email }}"}, "{{ params.email }}"])
    def test_native_template_without_value_is_an_error(self, where: Any) -> None:
        with DAG("dag", schedule=None, render_template_as_native_obj=True):
            operator = WebcamconsultListClientsOperator(task_id="task", where=where)
        with pytest.raises(WebcamconsultInputError, match=r"for email had no value|where must be a dict"):
            rendered(operator, params={"email": None}).execute({})

    def test_makes_upstream_tasks_of_its_xcoms(self) -> None:
        with DAG("dag", schedule=None):
            upstream = WebcamconsultCreateAppointmentOperator(
                task_id="upstream", attributes={"date": "2030-03-01T09:30"}
            )
            operator = WebcamconsultListAppointmentsOperator(task_id="task", where={"id": upstream.output})
        assert operator.upstream_task_ids == {"upstream"}


@pytest.mark.usefixtures("clients")
class TestFile:
    def test_has_path_and_number_of_records_as_result(self, tmp_path: Path) -> None:
        path = tmp_path / "clients.jsonl"
        returned = list_clients(fields=FIELDS, where={"id": ["c1", "c2"]}, path=str(path))
        assert returned == {"path": str(path), "records": 2}
        assert len(path.read_text().splitlines()) == 2

    @pytest.mark.parametrize("name", ["clients.jsonl", "clients.ndjson", "CLIENTS.JSONL"])
    def test_is_json_lines_with_all_fields_of_each_record(self, name: str, tmp_path: Path) -> None:
        list_clients(fields=FIELDS, path=str(tmp_path / name))
        lines = (tmp_path / name).read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {name: client.get(name) for name in FIELDS} for client in CLIENTS
        ]

    def test_is_csv_with_a_header_and_lists_as_json(self, tmp_path: Path) -> None:
        list_clients(fields=[*FIELDS, "email"], path=str(tmp_path / "clients.csv"))
        with (tmp_path / "clients.csv").open(newline="", encoding="utf-8") as file:
            assert [*csv.reader(file)] == [
                [*FIELDS, "email"],
                ["c1", "Ester", '["d1"]', "ester@example.com"],
                ["c2", 'de "Vries", É', "[]", ""],
                ["c3", "Bakker\nJr", "", "bakker@example.com"],
            ]

    def test_is_parquet_with_a_type_for_each_column(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parquet: Any = pytest.importorskip("pyarrow.parquet")
        monkeypatch.setattr(record_files, "ROW_GROUP_RECORDS", 2)
        list_clients(fields=FIELDS, path=str(tmp_path / "clients.parquet"))
        table = parquet.read_table(tmp_path / "clients.parquet")
        assert table.to_pylist() == [{name: client.get(name) for name in FIELDS} for client in CLIENTS]
        assert [str(column.type) for column in table.schema] == ["string", "string", "list<element: string>"]
        assert parquet.ParquetFile(tmp_path / "clients.parquet").num_row_groups == 2

    @pytest.mark.parametrize(("suffix", "lines"), [(".jsonl", []), (".csv", ["id,last_name,division_ids"])])
    def test_exists_without_any_record(self, suffix: str, lines: list[str], tmp_path: Path) -> None:
        path = tmp_path / f"clients{suffix}"
        assert list_clients(fields=FIELDS, where={"id": "c4"}, path=str(path))["records"] == 0
        assert path.read_text().splitlines() == lines

    def test_of_parquet_exists_without_any_record(self, tmp_path: Path) -> None:
        parquet: Any = pytest.importorskip("pyarrow.parquet")
        list_clients(fields=FIELDS, where={"id": "c4"}, path=str(tmp_path / "clients.parquet"))
        assert parquet.read_table(tmp_path / "clients.parquet").column_names == FIELDS

    def test_has_the_same_attributes_as_the_xcom_by_default(self, tmp_path: Path) -> None:
        list_clients(path=str(tmp_path / "clients.csv"))
        assert (tmp_path / "clients.csv").read_text().splitlines()[0] == "id,division_ids"

    def test_path_is_rendered(self, tmp_path: Path) -> None:
        operator = WebcamconsultListClientsOperator(task_id="task", path=f"{tmp_path}/{{{{ ds }}}}.jsonl")
        rendered(operator, ds="2030-03-01").execute({})
        assert [file.name for file in tmp_path.iterdir()] == ["2030-03-01.jsonl"]

    def test_path_may_be_an_object_storage_path(self, tmp_path: Path) -> None:
        path = ObjectStoragePath(f"file://{tmp_path}") / "{{ ds }}.jsonl"
        operator = rendered(WebcamconsultListClientsOperator(task_id="task", path=path), ds="2030-03-01")
        returned = operator.execute({})
        assert ObjectStoragePath(returned["path"]).exists()
        assert [file.name for file in tmp_path.iterdir()] == ["2030-03-01.jsonl"]

    def test_may_be_in_an_object_store(self) -> None:
        from fsspec.implementations.memory import MemoryFileSystem

        try:
            from airflow.sdk.io import attach
        except ImportError:  # Airflow 2
            from airflow.io.store import attach  # type: ignore[no-redef,import-not-found]
        store = MemoryFileSystem()
        attach(protocol="memory", fs=store)
        returned = list_clients(path="memory://exports/clients.jsonl")
        assert returned["records"] == 3
        assert [path.rpartition("/")[2] for path in store.find("/")] == ["clients.jsonl"]

    @pytest.mark.parametrize("name", ["clients.xlsx", "clients", "clients.jsonl.gz"])
    def test_of_unknown_format_is_an_error_before_the_request(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT")
        with pytest.raises(
            WebcamconsultInputError, match=r"use one of \.jsonl, \.ndjson, \.csv, \.parquet\."
        ):
            list_clients(path=str(tmp_path / name))

    @pytest.mark.parametrize("path", ["clients.jsonl", "exports/clients.jsonl", "./clients.jsonl"])
    def test_with_a_relative_path_is_an_error(self, path: str) -> None:
        with pytest.raises(WebcamconsultInputError, match="path of a file is relative"):
            list_clients(path=path)

    def test_of_parquet_names_the_extra_that_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(WebcamconsultInputError, match="Install the provider with its extra 'parquet'"):
            list_clients(path=str(tmp_path / "clients.parquet"))

    @pytest.mark.parametrize("name", ["clients.csv", "clients.jsonl"])
    def test_in_place_of_a_folder_is_an_error(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.mkdir()
        with pytest.raises(IsADirectoryError, match="it is a folder"):
            list_clients(path=str(path))
        assert [*path.iterdir()] == []

    def test_is_csv_that_keeps_a_carriage_return_in_its_cell(
        self, tmp_path: Path, serve: Serve, connect: Connect
    ) -> None:
        names = ["A\rB", "C\r\nD", "E"]
        connect(serve({"body": [{"id": name[0].lower(), "last_name": name} for name in names]}).url)
        list_clients(fields=["id", "last_name"], path=str(tmp_path / "clients.csv"))
        with (tmp_path / "clients.csv").open(newline="", encoding="utf-8") as file:
            assert [row[1] for row in csv.reader(file)] == ["last_name", *names]

    def test_in_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "missing" / "clients.jsonl"
        problem = rf"Cannot write \S*{path}: its folder does not exist\. Create the folder"
        with pytest.raises(FileNotFoundError, match=problem):
            list_clients(path=str(path))


class TestIncompleteFile:
    @pytest.fixture(autouse=True)
    def _malformed(self, serve: Serve, connect: Connect) -> None:
        connect(serve({"body": [*CLIENTS, {"last_name": "without id"}]}).url)

    @pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
    def test_does_not_appear(self, suffix: str, tmp_path: Path) -> None:
        if suffix == ".parquet":
            pytest.importorskip("pyarrow")
        path = tmp_path / f"clients{suffix}"
        path.write_text("of yesterday")
        with pytest.raises(WebcamconsultResponseError, match="record 4"):
            list_clients(path=str(path))
        assert path.read_text() == "of yesterday"
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    def test_has_a_temporary_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record_files, "_remove", lambda *_: None)
        with pytest.raises(WebcamconsultResponseError):
            list_clients(path=str(tmp_path / "clients.jsonl"))
        (file,) = tmp_path.iterdir()
        assert re.fullmatch(r"\.clients\.jsonl\.[0-9a-f]{16}\.tmp", file.name)

    def test_that_cannot_be_removed_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
    ) -> None:
        from fsspec.implementations.local import LocalFileSystem

        monkeypatch.setattr(LocalFileSystem, "rm_file", lambda *_: tmp_path.rmdir())
        with pytest.raises(WebcamconsultResponseError):
            list_clients(path=str(tmp_path / "clients.jsonl"))
        (file,) = tmp_path.iterdir()
        assert any(str(file) in message and "Delete it." in message for message in log.warnings)


def test_parquet_value_of_another_type_is_an_error_without_the_value(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    connect(serve({"body": [{"id": "a1", "duration": "s3cret"}]}).url)
    operator = WebcamconsultListAppointmentsOperator(task_id="task", path=str(tmp_path / "consults.parquet"))
    with pytest.raises(WebcamconsultResponseError, match="a value of type str as duration") as raised:
        operator.execute({})
    assert "s3cret" not in str(raised.value)


@pytest.mark.usefixtures("clients")
class TestXComOfManyRecords:
    def test_warns(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "XCOM_MAX_RECORDS", 2)
        assert len(list_clients()) == 3
        assert re.search(r"returns .* which Airflow stores .* 'where', or write them to a file", log.text)

    @pytest.mark.parametrize("limited", [{"where": {"id": ["c1", "c2"]}}, {"path": "clients.jsonl"}])
    def test_does_not_warn_about_few_records_or_a_file(
        self, limited: dict[str, Any], log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        if "path" in limited:
            limited = {"path": str(tmp_path / limited["path"])}
        monkeypatch.setattr(base, "XCOM_MAX_RECORDS", 2)
        list_clients(**limited)
        assert "which Airflow stores" not in log.text


@pytest.mark.usefixtures("clients")
class TestPseudonyms:
    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, password in {"key": KEY, "other_key": KEY[::-1], "short_key": "s3cret"}.items():
            connection = json.dumps({"conn_type": "generic", "password": password})
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", connection)

    def ids(self, conn_id: str = "key") -> list[str]:
        records = list_clients(fields=["id"], pseudonymize=["id"], pseudonymize_conn_id=conn_id)
        return [record["id"] for record in records]

    def test_are_keyed_digests_of_the_values(self) -> None:
        assert self.ids() == [
            hmac.new(KEY.encode(), client["id"].encode(), hashlib.sha256).hexdigest() for client in CLIENTS
        ]

    def test_are_the_same_in_each_run_and_differ_with_the_key(self) -> None:
        assert self.ids() == self.ids()
        assert not {*self.ids()} & {*self.ids("other_key")}

    def test_of_an_id_are_the_same_in_each_kind_of_record(self, serve: Serve, connect: Connect) -> None:
        pseudonym = self.ids()[0]
        connect(serve({"body": [{"id": "a1", "client_id": "c1"}]}).url)
        (consult,) = WebcamconsultListAppointmentsOperator(
            task_id="task", pseudonymize=["client_id"], pseudonymize_conn_id="key"
        ).execute({})
        assert consult == {"id": "a1", "client_id": pseudonym}

    def test_are_in_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "clients.jsonl"
        arguments = {"pseudonymize": ["last_name", "division_ids"], "pseudonymize_conn_id": "key"}
        list_clients(fields=FIELDS, path=str(path), **arguments)
        assert not re.search('Ester|Vries|Bakker|"d1"', path.read_text())
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["id"] for row in rows] == ["c1", "c2", "c3"]
        assert [len(row["division_ids"] or ()) for row in rows] == [1, 0, 0]
        assert rows[2]["division_ids"] is None

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            ({"pseudonymize": ["id"]}, "belong together"),
            ({"pseudonymize_conn_id": "key"}, "belong together"),
            ({"pseudonymize": [], "pseudonymize_conn_id": "key"}, "belong together"),
            (
                {"pseudonymize": ["last_name"], "pseudonymize_conn_id": "key"},
                r"last_name, which this task does not return\. It returns id and division_ids\.",
            ),
            ({"pseudonymize": "id", "pseudonymize_conn_id": "key"}, "must be a list"),
        ],
        ids=str,
    )
    def test_that_would_leave_values_as_they_are_are_an_error(
        self, arguments: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(WebcamconsultInputError, match=problem):
            list_clients(**arguments)

    def test_need_a_key_that_cannot_be_guessed(self) -> None:
        with pytest.raises(WebcamconsultConfigurationError, match="16 characters or more") as raised:
            self.ids("short_key")
        assert "s3cret" not in str(raised.value)

    def test_need_a_connection(self) -> None:
        with pytest.raises(WebcamconsultConnectionError, match="no connection 'nowhere'"):
            self.ids("nowhere")
