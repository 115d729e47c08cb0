"""DAGs without Webcamconsult, to test the local Airflow."""

from __future__ import annotations

import datetime
import subprocess
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, dag, task

try:
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger
except ModuleNotFoundError:  # Airflow 2.11 without the standard provider
    from airflow.triggers.temporal import DateTimeTrigger  # type: ignore[no-redef,import-not-found]

WAIT = datetime.timedelta(seconds=3)


class Wait(BaseOperator):
    """Wait in the triggerer, and return the number of seconds."""

    def execute(self, context: Any) -> None:
        end = datetime.datetime.now(datetime.timezone.utc) + WAIT
        self.defer(trigger=DateTimeTrigger(end), method_name="finish")

    def finish(self, context: Any, event: Any) -> float:
        return WAIT.total_seconds()


@dag(schedule=None, catchup=False)
def toy_success() -> None:
    @task
    def begin(**context: Any) -> dict[str, Any]:
        print("conf:", context["dag_run"].conf)
        return {"numbers": [1, 2], "word": "été"}

    @task
    def double(number: int) -> int:
        return 2 * number

    begin() >> Wait(task_id="wait") >> double.expand(number=[1, 2])


@dag(schedule=None, catchup=False)
def toy_failure() -> None:
    @task
    def fail() -> None:
        raise ValueError("the reason for the failure")

    fail()


@dag(schedule=None, catchup=False)
def toy_long() -> None:
    @task
    def sleep() -> None:
        subprocess.run(["sleep", "3600"], check=True)

    sleep()


toy_success()
toy_failure()
toy_long()
