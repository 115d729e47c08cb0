"""The only file that knows Airflow's versions."""

from __future__ import annotations

from typing import Any

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
    XComArg,
    conf,
)

try:
    from airflow.sdk.definitions._internal.mixins import ResolveMixin
except ImportError:  # Airflow 2
    from airflow.utils.mixins import ResolveMixin  # type: ignore[no-redef,import-not-found]

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
    "ResolveMixin",
    "XComArg",
    "conf",
    "is_automatic_retry",
    "task_state_store",
    "try_number",
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


def task_state_store(context: Context) -> Any:
    """
    Return what keeps values over the tries of a task; None below Airflow 3.3.

    :param context: the task's context.
    """
    return context.get("task_state_store")


def try_number(context: Context) -> int:
    """
    Return which try of the task this is, from 1; 1 where the context is a test's and does not say.

    :param context: the task's context.
    """
    ti: Any = context.get("ti")
    return 1 if ti is None else int(ti.try_number)


def is_automatic_retry(context: Context) -> bool:
    """
    Tell whether Airflow started this try after a failed one, not a person by clearing the task.

    :param context: the task's context.
    """
    ti: Any = context.get("ti")
    if ti is None:
        return False
    first_since_clear = (ti.max_tries or 0) - (ti.task.retries or 0) + 1
    return bool(ti.try_number > max(first_since_clear, 1))
