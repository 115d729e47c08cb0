"""
Kill workers of a real Airflow around the request that creates, lose answers, and count what exists then.

Runs once for each interpreter that is given, and so for each version of Airflow. Fails if a kill, or a lost
answer of this provider's operator, left two records or none::

    python scripts/chaos.py --kills 135 --lost 100 .venv/bin/python .venv-airflow-2.11/bin/python
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from devtools.chaos import run


def main() -> int:
    """Run it on each Airflow, print the tables, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "pythons", nargs="*", default=[sys.executable], help="interpreters, each with an Airflow"
    )
    parser.add_argument("--kills", type=int, default=135, help="tasks that are killed (default: %(default)s)")
    parser.add_argument(
        "--lost", type=int, default=100, help="answers lost of each operator (default: %(default)s)"
    )
    parser.add_argument("--report", type=Path, help="file to write the tables to as well")
    arguments = parser.parse_args()
    results = []
    for python in arguments.pythons:
        result = run(python, arguments.kills, arguments.lost)
        results.append(result)
        print("\n".join([*result.lines(), ""]), flush=True)
    if arguments.report:
        arguments.report.write_text("\n".join(line for result in results for line in [*result.lines(), ""]))
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
