"""
Tools that the tests, the scripts and the benchmarks share: a local Airflow, the sandbox, and a fault proxy.

The tests, the scripts and the benchmarks import from here, not from each other. This package imports none of
them, and is not part of the wheel. The editable install puts the checkout on Python's path, so that
``.venv/bin/python scripts/ui.py`` finds it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Root of the checkout."""
