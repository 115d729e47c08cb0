"""Store the baseline of a comparison in Airflow's asset state store, or in a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_webcamconsult.api.baseline import BASELINE_KEY
from airflow_provider_webcamconsult.operators.record_files import replacing, storage_path

if TYPE_CHECKING:
    from airflow_provider_webcamconsult.operators.record_files import FilePath


class BaselineStore(Protocol):
    """Where a task stores its baseline, as a value for JSON."""

    def read(self) -> Any:
        """Return the stored value, or None if there is none."""

    def write(self, value: dict[str, Any]) -> None:
        """
        Replace the value in one step.

        :param value: the new value.
        """


class AssetBaselineStore:
    """
    Stores a baseline in the state of an asset.

    :param state: the state of the asset.
    """

    def __init__(self, state: Any) -> None:
        self._state = state

    def read(self) -> Any:
        """Return the stored value, or None if there is none."""
        return self._state.get(BASELINE_KEY)

    def write(self, value: dict[str, Any]) -> None:
        """
        Replace the value in one step.

        :param value: the new value.
        """
        self._state.set(BASELINE_KEY, value)


class FileBaselineStore:
    """
    Stores a baseline in a file, which appears when it is complete.

    :param path: path or URL of the file.
    :raises WebcamconsultInputError: if a local path is relative.
    """

    def __init__(self, path: FilePath) -> None:
        self._path: Any = storage_path(path)  # has no types

    def read(self) -> Any:
        """Return the stored value, or None if there is none."""
        if not self._path.exists():
            return None
        with self._path.open("rb") as file:
            content = file.read()
        try:
            return json.loads(content)
        except ValueError:
            return {}  # not a baseline

    def write(self, value: dict[str, Any]) -> None:
        """
        Replace the value in one step.

        :param value: the new value.
        """
        with replacing(self._path) as file:
            file.write(json.dumps(value).encode())
