"""
Measure what importing the operators costs on top of ``airflow.sdk``, against the HTTP provider's.

Each import runs in a fresh process, the two in turn, so that a machine that speeds up or slows down does so
for both. Run it with the interpreter of an environment that has both: ``python benchmarks/imports.py``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

OURS = (
    "airflow_provider_webcamconsult.operators.users",
    "airflow_provider_webcamconsult.operators.clients",
    "airflow_provider_webcamconsult.operators.appointments",
)
THEIRS = ("airflow.providers.http.operators.http",)
RUNS = 15

_MEASURE = """
import importlib, json, sys, time
from airflow.sdk import BaseOperator, BaseHook  # airflow.sdk is lazy: what any DAG file loads
before = set(sys.modules)
start = time.perf_counter()
for name in sys.argv[1:]:
    importlib.import_module(name)
seconds = time.perf_counter() - start
new = set(sys.modules) - before
heavy = sorted(new & {"requests", "aiohttp", "starlette", "uvicorn"})
print(json.dumps({"seconds": seconds, "modules": len(new), "heavy": heavy}))
"""


def measure(modules: tuple[str, ...]) -> dict[str, object]:
    """Import the modules in a fresh process."""
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _MEASURE, *modules], capture_output=True, text=True, check=True
    )
    measured: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Measure in turn and print medians and the ratio."""
    measure(OURS), measure(THEIRS)  # warms the file cache
    pairs = [(measure(OURS), measure(THEIRS)) for _ in range(RUNS)]
    for name, results in (("ours", [pair[0] for pair in pairs]), ("http", [pair[1] for pair in pairs])):
        milliseconds = statistics.median(float(str(result["seconds"])) * 1000 for result in results)
        first = results[0]
        print(f"{name}: {milliseconds:.1f} ms, {first['modules']} modules, of them heavy {first['heavy']}")
    ratio = statistics.median(float(str(a["seconds"])) / float(str(b["seconds"])) for a, b in pairs)
    print(f"ours / http: {ratio:.2f} (median of {RUNS} pairs)")


if __name__ == "__main__":
    main()
