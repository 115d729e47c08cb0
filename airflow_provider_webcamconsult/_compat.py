"""The only file that knows Airflow's versions."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    BaseHook,
    BaseOperator,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    conf,
)

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseSensorOperator",
    "Context",
    "PokeReturnValue",
    "conf",
    "was_rescheduled",
]


def was_rescheduled(context: Context) -> bool:
    """
    Tell whether a sensor in reschedule mode has looked before, in an earlier process.

    :param context: the task's context.
    """
    if "task_reschedule_count" in context:  # Airflow 3
        return bool(context["task_reschedule_count"])
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.utils.session import create_session

    with create_session() as session:
        statement = TaskReschedule.stmt_for_task_instance(context["ti"])  # type: ignore[arg-type]
        return session.scalar(statement.limit(1)) is not None
