"""What OpenLineage is told about a sync. Airflow's OpenLineage provider, where it is installed, reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_webcamconsult.exceptions import WebcamconsultSyncError
from airflow_provider_webcamconsult.operators.clients import WebcamconsultSyncClientsOperator
from airflow_provider_webcamconsult.operators.lineage import COUNTS_FACET, file_dataset
from tests.unit.idempotent_create.airflow_task import TaskInstance

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = ("webcamconsult://webcamconsult_default", "clients")
CSV = "reference_code,last_name\nDL-1,Ester\nDL-2,Akkermans\n"


@pytest.mark.parametrize(
    ("path", "dataset"),
    [
        ("/exports/a b?.csv", ("file", "/exports/a b?.csv")),
        ("file:///exports/a.csv", ("file", "/exports/a.csv")),
        ("s3://exports/2026/a.csv", ("s3://exports", "2026/a.csv")),
        ("s3://my_conn@exports/a.csv", ("s3://exports", "a.csv")),
        ("ftp://user:password@host:21/a.csv", ("ftp://host:21", "a.csv")),
        ("https://host/a.csv?signature=secret", ("https://host", "a.csv")),
    ],
)
def test_dataset_of_a_file_has_no_credentials(path: str, dataset: tuple[str, str]) -> None:
    assert file_dataset(path) == dataset


@pytest.mark.usefixtures("hook")
class TestLineage:
    @pytest.fixture(autouse=True)
    def _provider(self) -> None:
        pytest.importorskip("airflow.providers.openlineage.extractors")

    def run(self, rows: Any, **parameters: Any) -> Any:
        """Run a sync, and return what the provider extracts."""
        from airflow.providers.openlineage.extractors.base import DefaultExtractor

        task = WebcamconsultSyncClientsOperator(
            task_id="sync", rows=rows, key="reference_code", **{"max_failures": 1, **parameters}
        )
        try:
            task.execute(TaskInstance(True).context)
        except WebcamconsultSyncError:
            assert parameters["max_failures"] == 0
        return DefaultExtractor(task).extract_on_complete(None)

    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        file = tmp_path / "clients.csv"
        file.write_text(CSV)
        return str(file)

    def test_file_is_read_and_clients_are_written(self, file: str, tmp_path: Path) -> None:
        ids = str(tmp_path / "ids.jsonl")
        lineage = self.run(file, ids_path=ids)
        assert [(dataset.namespace, dataset.name) for dataset in lineage.inputs] == [("file", file)]
        assert [(dataset.namespace, dataset.name) for dataset in lineage.outputs] == [("file", ids), CLIENTS]
        assert lineage.outputs[1].outputFacets["outputStatistics"].rowCount == 2

    @pytest.mark.parametrize("max_failures", [1, 0])
    def test_has_counts_and_known_names_and_no_values(self, file: str, max_failures: int) -> None:
        from openlineage.client.serde import Serde

        bad = {"reference_code": "DL-9", "date_of_birth": "Purple", "Jansen": 1}
        rows: Any = lambda context: [bad, {"reference_code": "DL-8", "last_name": "Ester"}]  # noqa: E731
        lineage = self.run(rows, max_failures=max_failures)
        counts = {
            name: getattr(lineage.run_facets[COUNTS_FACET], name) for name in ("rows", "created", "failed")
        }
        assert counts == {"rows": 2, "created": 1, "failed": 1}
        (clients,) = lineage.outputs
        names = [field.name for field in clients.facets["schema"].fields]
        assert names == ["date_of_birth", "last_name", "reference_code"]
        sent = Serde.to_json(lineage)
        assert not [text for text in ("DL-", "Ester", "Purple", "Jansen") if text in sent]

    def test_callable_is_no_dataset(self) -> None:
        assert self.run(lambda context: []).inputs == []

    def test_plan_reads_clients_and_writes_none(self, file: str) -> None:
        lineage = self.run(file, plan_only=True)
        assert (lineage.inputs[1].namespace, lineage.inputs[1].name) == CLIENTS
        assert lineage.outputs == []
        assert lineage.run_facets[COUNTS_FACET].plan_only is True
