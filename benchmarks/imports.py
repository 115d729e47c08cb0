"""
Benchmark importing the operators and parsing a DAG with them against the HTTP provider.

Each measurement runs in a new process, as Airflow parses each file in one, and starts after the import of
``airflow.sdk``, which every DAG file needs. The two take turns, so that changes in the machine's speed affect
both::

    python benchmarks/imports.py
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

OURS = (
    "airflow_provider_webcamconsult.operators.users",
    "airflow_provider_webcamconsult.operators.clients",
    "airflow_provider_webcamconsult.operators.appointments",
)
THEIRS = ("airflow.providers.http.operators.http",)

TASKS = 50
OUR_DAG = f"""
from airflow.sdk import dag
from airflow_provider_webcamconsult.operators.appointments import WebcamconsultCreateAppointmentOperator

@dag(schedule=None)
def many():
    for number in range({TASKS}):
        WebcamconsultCreateAppointmentOperator(
            task_id=f"book_{{number}}",
            attributes={{"user_id": "{{{{ params.user_id }}}}", "date": "2030-03-01T09:30", "duration": 30}},
        )

many()
"""
THEIR_DAG = f"""
from airflow.sdk import dag
from airflow.providers.http.operators.http import HttpOperator

@dag(schedule=None)
def many():
    for number in range({TASKS}):
        HttpOperator(
            task_id=f"book_{{number}}",
            endpoint="appointments.json",
            data='{{"appointment": {{"user_id": "{{{{ params.user_id }}}}", "duration": 30}}}}',
            headers={{"Content-Type": "application/json"}},
        )

many()
"""

_MEASURE = """
import importlib, json, sys, time
from airflow.sdk import BaseOperator, BaseHook  # airflow.sdk is lazy: load what every DAG file needs
names, source = json.load(sys.stdin)
code = compile(source, "many.py", "exec")
before = set(sys.modules)
times = [time.perf_counter()]
for name in names:
    importlib.import_module(name)
times.append(time.perf_counter())
new = set(sys.modules) - before
exec(code, {"__name__": "first"})
times.append(time.perf_counter())
exec(code, {"__name__": "again"})
times.append(time.perf_counter())
heavy = sorted(new & {"requests", "aiohttp", "starlette", "uvicorn"})
print(json.dumps({
    "import": times[1] - times[0],
    "parse": times[2] - times[0],
    "parse again": times[3] - times[2],
    "modules": len(new),
    "heavy": heavy,
}))
"""

ROWS = {
    "import": "importing the operators",
    "parse": f"parsing a DAG of {TASKS} tasks, with the import",
    "parse again": "parsing it again in the same process",
}
RUNS = 15


def measure(modules: tuple[str, ...], source: str) -> dict[str, float]:
    """
    Import modules and parse a DAG in a new process.

    :param modules: the modules to import.
    :param source: source of a DAG file.
    :return: seconds, and the loaded modules.
    """
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _MEASURE],
        input=json.dumps([modules, source]),
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Run the benchmark, and print medians and ratios."""
    measure(OURS, OUR_DAG), measure(THEIRS, THEIR_DAG)  # warm up the file cache
    pairs = [(measure(OURS, OUR_DAG), measure(THEIRS, THEIR_DAG)) for _ in range(RUNS)]
    print(f"## Parsing: Airflow {version('apache-airflow')}, Python {platform.python_version()}\n")
    print("| | this provider, ms | HTTP provider, ms | ratio |")
    print("| --- | --- | --- | --- |")
    for key, what in ROWS.items():
        ours, theirs = (statistics.median(pair[side][key] * 1000 for pair in pairs) for side in (0, 1))
        ratio = statistics.median(pair[0][key] / pair[1][key] for pair in pairs)
        print(f"| {what} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} |")
    for name, side in (("This provider", 0), ("The HTTP provider", 1)):
        loaded = pairs[0][side]
        print(f"\n{name} loads {loaded['modules']} modules. Slow to import: {loaded['heavy'] or 'none'}.")


if __name__ == "__main__":
    main()
