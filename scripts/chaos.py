"""
Kill workers of a real Airflow while they create or sync, lose responses, and count the records that result.

Runs once for each given interpreter, that is, for each version of Airflow. Fails if a killed worker, a create
that was processed late, two simultaneous creates, or a lost response to this provider's operators resulted in
two records or none::

    python scripts/chaos.py --kills 195 --pairs 20 --lost 100 --syncs 20 .venv/bin/python ...
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from devtools.chaos import run


def main() -> int:
    """Run on each Airflow, print the tables, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "pythons", nargs="*", default=[sys.executable], help="interpreters of environments with Airflow"
    )
    parser.add_argument("--kills", type=int, default=195, help="tasks to kill (default: %(default)s)")
    parser.add_argument(
        "--pairs",
        type=int,
        default=20,
        help="pairs of tasks that create the same record, for each if_exists (default: %(default)s)",
    )
    parser.add_argument(
        "--lost", type=int, default=100, help="responses to lose for each operator (default: %(default)s)"
    )
    parser.add_argument("--syncs", type=int, default=20, help="syncs to kill (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="file to also write the tables to")
    arguments = parser.parse_args()
    results = []
    for python in arguments.pythons:
        result = run(python, arguments.kills, arguments.pairs, arguments.lost, arguments.syncs)
        results.append(result)
        print("\n".join([*result.markdown_lines(), ""]), flush=True)
    if arguments.report:
        arguments.report.write_text(
            "\n".join(line for result in results for line in [*result.markdown_lines(), ""])
        )
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
