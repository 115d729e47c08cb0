"""
What the tests, the scripts and the benchmarks share: a local Airflow, the sandbox, and servers that fail.

They may import from here and not from each other; this package imports from none of them. It is not part of
the distribution. The editable install puts the checkout on Python's path, so that
``.venv/bin/python scripts/ui.py`` finds it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
