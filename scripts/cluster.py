"""
Run the provider on a cluster, kill its parts, and print each step and what is left at the service.

Run by `make cluster`. All files are in `.airflow/cluster`, which each run empties first. All processes are
stopped at the end.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from airflow_provider_webcamconsult.sandbox import Sandbox
from devtools import ROOT
from devtools.cluster import Cluster
from devtools.cluster_run import (
    ClusterRun,
    HoldingProxy,
    Result,
    cluster_config,
    faultless_waits,
    install_dag,
)
from devtools.local_airflow import LocalAirflowError, new_home, stop_on_signals

HOME = ROOT / ".airflow" / "cluster"

BEGIN = time.monotonic()


def print_step(text: str) -> None:
    """Print one step, after the seconds since the start."""
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", flush=True)


def find_problems(result: Result, consults: int, clients: int) -> list[str]:
    """Return what a faultless run would not have left."""
    expected = {
        "each appointment once": (result.appointments, {f"c{number}": 1 for number in range(consults)}),
        "each client once": (result.clients, {f"r{number}": 1 for number in range(clients)}),
        "no wrong id": (result.wrong_ids, 0),
        "each wait once": (result.waits, faultless_waits(consults)),
        "no wait tried again": (result.retried_waits, 0),
        "each change once": (result.changes, dict.fromkeys(result.expected_changes, 1)),
    }
    return [f"expected {what}, found {found}" for what, (found, right) in expected.items() if found != right]


def report(result: Result) -> None:
    """Print what is left."""
    print(f"\nLeft at the service, after {result.seconds:.0f} s on Airflow {result.version}:")
    for kind, found in (("appointments", result.appointments), ("clients", result.clients)):
        twice = sum(count > 1 for count in found.values())
        print(f"  {found.total()} {kind} of {len(found)} people; {twice} of them twice")
    for kill in result.kills:
        print(f"  {kill}")
    lost = ", ".join(f"{count} of {task_id}" for task_id, count in result.lost_tries.items())
    print(f"  tries that died and were repeated: {lost}")
    print(f"  {result.changes.total()} changes reported; {result.lost_lists} tries to list them died")
    print(f"  waits by triggerer: {dict(result.by_triggerer)}")
    print(f"  requests per interval of each triggerer: {result.polls_per_interval:.2f}")


def main() -> int:
    """Run the cluster. Return 0 if nothing was lost or doubled, 1 if something was, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "python", nargs="?", default=sys.executable, help="interpreter with the Airflow to run"
    )
    parser.add_argument(
        "--consults", type=int, default=40, help="appointments to book (default: %(default)s)"
    )
    parser.add_argument("--clients", type=int, default=200, help="clients to sync (default: %(default)s)")
    arguments = parser.parse_args()
    stop_on_signals()
    dags = HOME / "dags"
    try:
        with new_home(HOME), Sandbox() as sandbox, HoldingProxy(sandbox.url) as proxy:
            install_dag(dags)
            cluster = Cluster(HOME, dags, python=arguments.python, config=cluster_config(arguments.consults))
            names = ", ".join(component.name for component in cluster.components)
            print_step(f"Airflow {cluster.version} starts, with PostgreSQL and Redis: {names}")
            with cluster:
                print_step("all are up")
                result = ClusterRun(
                    cluster,
                    sandbox,
                    proxy,
                    consults=arguments.consults,
                    clients=arguments.clients,
                    say=print_step,
                ).run()
            print_step("stopped; nothing is left running")
            report(result)
            problems = find_problems(result, arguments.consults, arguments.clients)
    except KeyboardInterrupt:
        print("\nInterrupted. Nothing is left running.", file=sys.stderr)
        return 130
    except (LocalAirflowError, OSError) as error:
        print(f"\nThe run failed. {error}\nThe logs are in {os.path.relpath(HOME)}.", file=sys.stderr)
        return 1
    print("\n".join(problems or ["Nothing was lost, and nothing doubled."]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
