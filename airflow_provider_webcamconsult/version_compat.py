"""The only file that knows Airflow's versions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
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

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.triggers.base import TriggerEvent

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseSensorOperator",
    "Context",
    "PokeReturnValue",
    "ResolveMixin",
    "XComArg",
    "conf",
    "can_end_from_trigger",
    "is_automatic_retry",
    "task_state_store",
    "task_success",
    "try_started_at",
    "try_number",
    "was_rescheduled",
]

XCOM_RETURN_KEY = "return_value"

_IS_AIRFLOW_2 = airflow_version.startswith("2.")


def was_rescheduled(context: Context) -> bool:
    """
    Tell whether a sensor in reschedule mode has looked before, in an earlier process of this try.

    :param context: the task's context.
    """
    if "task_reschedule_count" in context:  # Airflow 3
        return bool(context["task_reschedule_count"])
    ti = context.get("ti")
    return ti is not None and _first_reschedule(ti) is not None


def _first_reschedule(ti: Any) -> Any:
    """Return when the first process of a try began that was rescheduled; for Airflow 2."""
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.utils.session import create_session

    with create_session() as session:
        first = session.scalar(TaskReschedule.stmt_for_task_instance(ti).limit(1))
        return first and first.start_date


def try_started_at(context: Context, *, reschedule: bool) -> float:
    """
    Return when this try of a sensor began, in seconds since the epoch; in reschedule mode, its first process.

    :param context: the task's context.
    :param reschedule: whether the sensor is in reschedule mode.
    """
    ti: Any = context.get("ti")
    if ti is None:  # a test's context, which does not say
        return time.time()
    if _IS_AIRFLOW_2:
        # Airflow's own start_date is the one of this process.
        return _seconds((reschedule and _first_reschedule(ti)) or ti.start_date)
    if not reschedule:
        return _seconds(ti.start_date)
    # What Airflow 3 gives as the start of the first process is its end: the best known below 3.3.
    store, key = task_state_store(context), f"try_{ti.try_number}_started_at"
    if context.get("task_reschedule_count"):
        began = store.get(key, None) if store else None
        return _seconds(ti.get_first_reschedule_date(context)) if began is None else float(began)
    began = _seconds(ti.start_date)
    if store:
        store.set(key, began)
    return began


def _seconds(date: datetime | None) -> float:
    return time.time() if date is None else date.timestamp()


def can_end_from_trigger() -> bool:
    """Tell whether a trigger can end a task with success and return a value for it."""
    if _IS_AIRFLOW_2:
        return True
    from airflow.sdk.bases.xcom import BaseXCom

    return hasattr(BaseXCom, "aset")


async def task_success(task_instance: Any, value: Any, *, do_xcom_push: bool) -> TriggerEvent:
    """
    Return the event with which a trigger ends its task with success.

    :param task_instance: the trigger's.
    :param value: what the task returns.
    :param do_xcom_push: whether what it returns is kept.
    """
    from airflow.triggers.base import TaskSuccessEvent

    if _IS_AIRFLOW_2:
        return TaskSuccessEvent(xcoms={XCOM_RETURN_KEY: value} if do_xcom_push else None)
    if do_xcom_push:
        from airflow.sdk.execution_time.xcom import XCom

        # Not TaskSuccessEvent(xcoms=...): Airflow 3.3 stores that as JSON in JSON.
        await XCom.aset(
            key=XCOM_RETURN_KEY,
            value=value,
            dag_id=task_instance.dag_id,
            task_id=task_instance.task_id,
            run_id=task_instance.run_id,
            map_index=task_instance.map_index,
        )
    return TaskSuccessEvent()


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
