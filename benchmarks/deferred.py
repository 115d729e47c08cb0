"""
A DAG of waits, and a script that writes the rows of its deferred tasks to Airflow's database.

``waits.py`` copies this file into a DAGs folder, and runs it with the interpreter of the measured Airflow. A
scheduler would need an hour to defer thousands of tasks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import dag, task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.triggers.base import BaseTrigger, TriggerEvent

DAG_ID = "waits"
TASK_ID = "wait"
RUN_ID = "deferred"

OURS = "WebcamconsultAppointmentStateTrigger"
THEIRS = "HttpSensorTrigger"
SLEEPING = "DateTimeTrigger"
"""Only sleeps, so its cost is Airflow's own cost of a trigger."""

LIFETIME = timedelta(days=1)


@dag(dag_id=DAG_ID, schedule=None, catchup=False)
def waits() -> None:
    """Wait for each of some appointments."""

    @task
    def ids() -> list[str]:
        return []

    # Any operator will do, since only the triggerer runs.
    @task(task_id=TASK_ID)
    def wait(appointment_id: str) -> None:
        pass

    wait.expand(appointment_id=ids())


waits()

if interval := os.environ.get("WATCHED_INTERVAL"):
    from airflow_provider_webcamconsult.triggers.changes import webcamconsult_changes

    # Only an asset that a DAG is scheduled on is watched.
    dag(dag_id="watched", schedule=[webcamconsult_changes(poke_interval=float(interval))])(lambda: None)()


class Timed:
    """Mixin for triggers. Its event has the time at which it was fired, in nanoseconds since the epoch."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        return f"{Path(__file__).stem}.{type(self).__name__}", super().serialize()[1]  # type: ignore[misc]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Run the trigger, and replace the payload of its events."""
        async for event in super().run():  # type: ignore[misc]
            event.payload = {"fired_at": time.time_ns()}
            yield event


def __getattr__(name: str) -> type[BaseTrigger]:
    """Create the class that Airflow imports. Imports of the other one must not add to its memory."""
    if name == f"Timed{OURS}":
        from airflow_provider_webcamconsult.triggers.appointments import WebcamconsultAppointmentStateTrigger

        return type(name, (Timed, WebcamconsultAppointmentStateTrigger), {})
    if name == f"Timed{THEIRS}":
        from airflow.providers.http.triggers.http import HttpSensorTrigger

        return type(name, (Timed, HttpSensorTrigger), {})
    raise AttributeError(name)


def make_trigger(name: str, ids: list[str], poke_interval: float) -> BaseTrigger:
    """
    Return the trigger of a wait.

    :param name: class name of the trigger.
    :param ids: ids of the appointments; only the provider's own trigger takes more than one.
    :param poke_interval: seconds between two polls.
    """
    end = datetime.now(timezone.utc) + LIFETIME
    if name == SLEEPING:
        try:
            from airflow.providers.standard.triggers.temporal import DateTimeTrigger
        except ImportError:
            from airflow.triggers.temporal import DateTimeTrigger  # type: ignore[no-redef,import-not-found]

        return DateTimeTrigger(end)
    arguments: dict[str, dict[str, Any]] = {
        OURS: {
            **(
                {"appointment_id": ids[0], "last_state": "idle"}
                if len(ids) == 1
                else {"appointment_id": None}
            ),
            "appointment_ids": None if len(ids) == 1 else ids,
            "target_states": ["finished"],
            "failed_states": [],
            "webcamconsult_conn_id": "webcamconsult_default",
            "poke_interval": poke_interval,
            "deadline": end.timestamp(),
        },
        THEIRS: {
            "endpoint": f"appointment/{ids[0]}.json",
            "http_conn_id": "http_default",
            "poke_interval": poke_interval,
        },
    }
    return __getattr__(f"Timed{name}")(**arguments[name])


def write_rows(name: str, ids: list[str], poke_interval: float, in_one: bool) -> None:
    """
    Write a run of the DAG with one deferred task instance for each appointment, as Airflow would.

    :param name: class name of the trigger.
    :param ids: ids of the appointments.
    :param poke_interval: seconds between two polls.
    :param in_one: whether one task waits for all appointments.
    """
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunType

    now = datetime.now(timezone.utc)
    waits = [ids] if in_one else [[id] for id in ids]
    with create_session() as session:
        model: Any = SerializedDagModel.get(DAG_ID, session=session)
        run: dict[str, Any] = {
            "run_id": RUN_ID,
            "run_type": DagRunType.MANUAL,
            "state": DagRunState.RUNNING,
            "data_interval": (now, now),
            "start_date": now,
            "session": session,
        }
        version: dict[str, Any] = {}
        if hasattr(model, "dag_version_id"):
            from airflow.utils.types import DagRunTriggeredByType

            run |= {"logical_date": now, "run_after": now, "triggered_by": DagRunTriggeredByType.TEST}
            version = {"dag_version_id": model.dag_version_id}
        else:
            run |= {"execution_date": now}
        dag_run = model.dag.create_dagrun(**run)
        session.flush()
        # As when Airflow expands a mapped task: the unexpanded instance becomes the first one.
        first: Any = dag_run.get_task_instance(TASK_ID, session=session)
        first.map_index = 0
        upstream: Any = dag_run.get_task_instance("ids", session=session)
        upstream.state = TaskInstanceState.SUCCESS
        mapped = model.dag.get_task(TASK_ID)
        others = (
            TaskInstance(mapped, run_id=RUN_ID, map_index=number, **version)
            for number in range(1, len(waits))
        )
        triggers = [Trigger.from_object(make_trigger(name, each, poke_interval)) for each in waits]
        session.add_all(triggers)
        session.flush()
        for instance, trigger in zip([first, *others], triggers, strict=True):
            instance.state = TaskInstanceState.DEFERRED
            instance.try_number = 1
            instance.start_date = now
            instance.trigger_id = trigger.id
            instance.trigger_timeout = now + LIFETIME
            instance.next_method = "execute_complete"
            instance.next_kwargs = {}
            session.add(instance)


if __name__ == "__main__":
    write_rows(**json.load(sys.stdin))
