"""Search everything that an Airflow leaves behind for values, in all their encodings."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Leak(NamedTuple):
    """A value that was found, in which encoding and where."""

    name: str
    form: str
    place: str


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Read every file of a folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield str(file.relative_to(folder)), file.read_bytes()


def tables(database: Path) -> Iterator[tuple[str, bytes]]:
    """Read every table. In the database's file, a value may be split between two pages."""
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()  # noqa: S608
            cells = (cell if isinstance(cell, bytes) else str(cell).encode() for row in rows for cell in row)
            yield f"table {name}", b"\n".join(cells)


def search(values: Mapping[str, str], places: Mapping[str, bytes]) -> list[Leak]:
    """
    Search places for values.

    :param values: the values by name.
    :param places: the contents of the places by name.
    """
    needles = [(name, form, text) for name, value in values.items() for form, text in _forms(value)]
    found = []
    for place, content in places.items():
        lower = content.lower()
        for name, form, text in needles:
            if text in (content if form == "base64" else lower):
                found.append(Leak(name, form, place))
    return found


def _forms(value: str) -> Iterator[tuple[str, bytes]]:
    plain = {
        "plain": value,
        "JSON": json.dumps(value)[1:-1],
        "JSON in JSON": json.dumps(json.dumps(value))[3:-3],
        "repr of bytes": repr(value.encode())[2:-1],
        "URL": quote(value, safe=""),
        "URL's path": quote(value),
        "form": quote_plus(value),
    }
    for form, text in plain.items():
        yield form, text.lower().encode()
    for offset in range(3):  # position of the value in the encoded text, modulo 3
        whole = b"\0" * offset + value.encode()
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            # Without the characters that depend on the surrounding text.
            yield "base64", encode(whole)[-(-offset * 8 // 6) : len(whole) * 8 // 6]
