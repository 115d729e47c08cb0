"""Write records to a file as JSON Lines, CSV or Parquet."""

from __future__ import annotations

import codecs
import csv
import json
import logging
import secrets
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError, WebcamconsultResponseError
from airflow_provider_webcamconsult.version_compat import ObjectStoragePath

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_provider_webcamconsult.api.resources import Resource

    Row: TypeAlias = dict[str, Any]
    Write: TypeAlias = Callable[[Any, Resource[Any, Any], Sequence[str], Iterator[Row]], None]

log = logging.getLogger(__name__)

#: Number of records that a row group of a Parquet file has, and that are in memory at a time.
ROW_GROUP_RECORDS = 10_000


#: Path or URL of a file.
FilePath: TypeAlias = "str | os.PathLike[str] | ObjectStoragePath"


def storage_path(value: FilePath) -> ObjectStoragePath:
    """
    Return a path on any storage that Airflow reads.

    :param value: path or URL.
    :raises WebcamconsultInputError: if a local path is relative.
    """
    if isinstance(value, ObjectStoragePath):
        return value
    text = str(value)
    if "://" not in text and not text.startswith("/"):
        # Airflow 2 would take the root folder, Airflow 3 wherever the worker was started.
        raise WebcamconsultInputError(
            "The path of a file is relative, but a task has no folder of its own. Use an absolute path, such "
            "as /exports/clients.csv, or a URL, such as s3://aws_default@bucket/clients.csv."
        )
    return ObjectStoragePath(text)


def parse_path(value: FilePath) -> ObjectStoragePath:
    """
    Return the path of a file to write, whose name tells its format.

    :param value: path or URL.
    :raises WebcamconsultInputError: if a local path is relative, the format is unknown, or pyarrow is missing
        for Parquet.
    """
    path = storage_path(value)
    if path.suffix.lower() not in _WRITERS:
        raise WebcamconsultInputError(
            f"path has a name that ends in '{path.suffix}'. The end of the name tells the format: "
            f"use one of {', '.join(_WRITERS)}."
        )
    if _WRITERS[path.suffix.lower()] is _write_parquet:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise WebcamconsultInputError(
                "path is a Parquet file, but pyarrow is not installed. Install the provider with its extra "
                "'parquet', or write JSON Lines (.jsonl) or CSV (.csv)."
            ) from None
    return path


def write_records(
    path: ObjectStoragePath, resource: Resource[Any, Any], columns: Sequence[str], records: Iterable[Row]
) -> int:
    """
    Write records to a file, one by one.

    :param path: path of the file, which :func:`replacing` writes; its suffix tells the format.
    :param resource: the kind of record.
    :param columns: names of the attributes that each record has.
    :param records: the records.
    :return: number of records.
    :raises WebcamconsultResponseError: if a value does not fit the attribute's column of a Parquet file.
    """
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for record in records:
            count += 1
            yield record

    with replacing(path) as file:
        _WRITERS[path.suffix.lower()](file, resource, columns, counted())
    return count


@contextmanager
def replacing(path: ObjectStoragePath) -> Iterator[Any]:
    """
    Open a binary file that replaces an earlier one when it is complete.

    Until then, it has a temporary name in the same folder. It is removed if it stays incomplete.

    :param path: path of the file.
    :raises FileNotFoundError: if its folder does not exist.
    :raises IsADirectoryError: if the path is a folder.
    """
    filesystem, target = path.fs, path.path
    if filesystem.isdir(target):
        raise IsADirectoryError(
            f"Cannot write {path}: it is a folder. Use another path, or delete the folder."
        )
    folder, slash, name = target.rpartition("/")
    temporary = f"{folder}{slash}.{name}.{secrets.token_hex(8)}.tmp"
    try:
        with _open(path, temporary) as file:
            yield file
        filesystem.mv(temporary, target)
    except BaseException:
        _remove(filesystem, temporary)
        raise


def _open(path: ObjectStoragePath, temporary: str) -> Any:
    try:
        return path.fs.open(temporary, "wb")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Cannot write {path}: its folder does not exist. Create the folder where the task runs."
        ) from None


def _remove(filesystem: Any, temporary: str) -> None:
    try:
        if filesystem.exists(temporary):
            filesystem.rm_file(temporary)
    except Exception as error:
        # The first error matters more. Not its text: it comes from the storage.
        log.warning(
            "Could not remove the incomplete file %s (%s). Delete it.", temporary, type(error).__name__
        )


def write_lines(file: Any, rows: Iterable[Row]) -> None:
    """
    Write JSON Lines.

    :param file: the binary file.
    :param rows: one JSON object for each line.
    """
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_json_lines(
    file: Any, resource: Resource[Any, Any], columns: Sequence[str], records: Iterator[Row]
) -> None:
    write_lines(file, records)


def _write_csv(
    file: Any, resource: Resource[Any, Any], columns: Sequence[str], records: Iterator[Row]
) -> None:
    text = codecs.getwriter("utf-8")(file)
    writer = csv.writer(text, lineterminator="\n")
    # Readers take a carriage return for the end of a row, but csv does not quote it.
    quoting_writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    for record in records:
        values = ["" if record[name] is None else _to_text(record[name]) for name in columns]
        (quoting_writer if any("\r" in value for value in values) else writer).writerow(values)


def _write_parquet(
    file: Any, resource: Resource[Any, Any], columns: Sequence[str], records: Iterator[Row]
) -> None:
    import pyarrow
    import pyarrow.parquet

    types = {int: pyarrow.int64(), list: pyarrow.list_(pyarrow.string()), str: pyarrow.string()}
    kinds = {name: _kind(resource, name) for name in columns}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(records, ROW_GROUP_RECORDS)):
            cells = {
                name: [_to_cell(kind, name, row[name], resource) for row in rows]
                for name, kind in kinds.items()
            }
            writer.write_table(pyarrow.table(cells, schema))


def _kind(resource: Resource[Any, Any], name: str) -> type:
    """Return the type of a column: fixed by the attribute, so that all files of an export have it."""
    if name in resource.numbers:
        return int
    return list if name.endswith("_ids") or name == "roles" else str


def _to_cell(kind: type, name: str, value: Any, resource: Resource[Any, Any]) -> Any:
    if value is None:
        return None
    if kind is str:
        return _to_text(value)
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    is_fitting = is_list if kind is list else type(value) is int
    if not is_fitting:
        raise WebcamconsultResponseError(
            f"{resource.with_article.capitalize()} has a value of type {type(value).__name__} as {name}, "
            f"which does not fit the column of a Parquet file. Write JSON Lines, or leave out {name}."
        )
    return value


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_WRITERS: dict[str, Write] = {
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
