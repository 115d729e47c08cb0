"""Values that the DAGs read in their tasks. The test writes the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read(name: str) -> Any:
    """Return a person, or another entry."""
    return json.loads(Path(__file__).with_name("people.json").read_text())[name]
