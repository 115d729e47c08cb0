"""Read rows from a CSV or JSON Lines file, and write JSON Lines, on any storage that Airflow reads."""

from __future__ import annotations

import csv
import itertools
import json
import os
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.sync_plan import MalformedRow
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError
from airflow_provider_webcamconsult.operators.record_files import replacing, storage_path, write_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_webcamconsult.operators.record_files import FilePath

#: The delimiters that a CSV file may have. Attribute names contain none of them.
DELIMITERS = (",", ";", "\t")

_CSV = (".csv",)
_JSON_LINES = (".jsonl", ".ndjson")


def is_path(value: object) -> bool:
    """
    Return whether a value is the path of a file.

    :param value: the value.
    """
    # Not all versions of ObjectStoragePath are PathLike, and importing it takes long.
    return isinstance(value, (str, os.PathLike)) or callable(getattr(value, "open", None))


def read_rows(path: FilePath) -> Iterator[dict[str, Any] | MalformedRow]:
    """
    Read the rows of a file one by one.

    The names in the header of a CSV file, or in the objects of a JSON Lines file, are the API's. A CSV file
    may have semicolons or tabs instead of commas. An empty cell is None. Empty lines are no rows.

    :param path: path or URL of the file. Its suffix is ``.csv``, ``.jsonl`` or ``.ndjson``.
    :return: an iterator over the rows.
    :raises WebcamconsultInputError: if the file has another suffix, has no valid header or is not UTF-8.
    :raises FileNotFoundError: if the file does not exist.
    """
    file_path: Any = storage_path(path)
    suffix = os.path.splitext(file_path.name)[1].lower()  # not all storage paths have a suffix
    if suffix not in _CSV + _JSON_LINES:
        raise WebcamconsultInputError(
            f"The file with the rows must have one of the suffixes {', '.join(_CSV + _JSON_LINES)}."
        )
    problem = None
    # A byte order mark is what spreadsheets write first.
    try:
        opened = file_path.open("r", encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        # A retry is right: another system may deliver the file late.
        raise FileNotFoundError(
            f"There is no file {file_path} with rows. Check the path, and that the file is on the machine "
            "where the task runs."
        ) from None
    with opened as file:
        lines = iter(file.readline, "")  # Airflow 2's files are not iterable
        try:
            yield from _read_csv(lines) if suffix in _CSV else _read_json_lines(lines)
        except UnicodeDecodeError:
            problem = "is not in UTF-8"
        except csv.Error:
            problem = "is not a valid CSV file"
    # Raised outside of the except block, because the error that it replaces contains the text.
    if problem:
        raise WebcamconsultInputError(f"The file with the rows {problem}. Export it again.")


def _read_csv(lines: Iterator[str]) -> Iterator[dict[str, Any] | MalformedRow]:
    first = next(lines, "")
    delimiter = max(DELIMITERS, key=first.count)
    # Strict: a stray quote would make one cell of the lines that follow.
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if not all(header) or len({*header}) != len(header):
        raise WebcamconsultInputError(
            "The header of the CSV file has an empty name, or the same name twice. Name each column after "
            "an attribute."
        )
    for cells in reader:
        if any("\n" in cell and delimiter in cell.partition("\n")[2] for cell in cells):
            yield MalformedRow("A cell has a line break and looks like several rows. Check its quotes.")
        elif len(cells) == len(header):
            yield {name: cell or None for name, cell in zip(header, cells, strict=True)}
        elif cells:
            yield MalformedRow(
                f"The row has {len(cells)} values, but the header has {len(header)} names. Check its quotes."
            )


def _read_json_lines(lines: Iterator[str]) -> Iterator[dict[str, Any] | MalformedRow]:
    for line in lines:
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else MalformedRow("The line is not a JSON object.")


def write_json_lines(path: FilePath, items: Iterable[dict[str, Any]]) -> None:
    """
    Write a JSON Lines file. An existing file is replaced when the new one is complete.

    :param path: path or URL of the file.
    :param items: one JSON object for each line.
    """
    with replacing(storage_path(path)) as file:
        write_lines(file, items)
