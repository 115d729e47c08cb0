"""Differences between Airflow versions. No other module checks the Airflow version."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseHook,
    BaseOperator,
    BaseSensorOperator,
    Context,
    ObjectStoragePath,
    PokeReturnValue,
    XComArg,
    conf,
)

try:
    from airflow.sdk.definitions._internal.mixins import ResolveMixin
except ImportError:  # Airflow 2
    from airflow.utils.mixins import ResolveMixin  # type: ignore[no-redef,import-not-found]

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow.triggers.base import TriggerEvent

__all__ = [
    "AIRFLOW_VERSION",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseSensorOperator",
    "Context",
    "ObjectStoragePath",
    "PokeReturnValue",
    "ResolveMixin",
    "XComArg",
    "asset_state",
    "asset_with_watcher",
    "conf",
    "can_end_from_trigger",
    "is_automatic_retry",
    "is_mapped",
    "raise_on_sigterm",
    "task_state_store",
    "task_success",
    "try_started_at",
    "try_number",
    "was_rescheduled",
]

XCOM_RETURN_KEY = "return_value"

#: The major and the minor version of Airflow.
AIRFLOW_VERSION = tuple(map(int, airflow_version.split(".")[:2]))

_IS_AIRFLOW_2 = AIRFLOW_VERSION < (3,)


def was_rescheduled(context: Context) -> bool:
    """
    Return whether an earlier process of this try has already rescheduled the sensor.

    :param context: the task's context.
    """
    if "task_reschedule_count" in context:  # Airflow 3
        return bool(context["task_reschedule_count"])
    ti = context.get("ti")
    return ti is not None and _first_reschedule(ti) is not None


def _first_reschedule(ti: Any) -> Any:
    """Return when the first process of a rescheduled try started, or None. Only for Airflow 2."""
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.utils.session import create_session

    with create_session() as session:
        first = session.scalar(TaskReschedule.stmt_for_task_instance(ti).limit(1))
        return first and first.start_date


def try_started_at(context: Context, *, reschedule: bool) -> float:
    """
    Return when this try of a sensor started. In reschedule mode, that is the start of its first process.

    :param context: the task's context.
    :param reschedule: whether the sensor is in reschedule mode.
    :return: seconds since the epoch.
    """
    ti: Any = context.get("ti")
    if ti is None:  # the context of a unit test
        return time.time()
    if _IS_AIRFLOW_2:
        # start_date is the start of the current process.
        return _seconds((reschedule and _first_reschedule(ti)) or ti.start_date)
    if not reschedule:
        return _seconds(ti.start_date)
    # Airflow 3 returns the end of the first process instead of its start, so the start is stored. Below 3.3
    # there is no store, and the end is the best available value.
    store, key = task_state_store(context), f"try_{ti.try_number}_started_at"
    if context.get("task_reschedule_count"):
        started_at = store.get(key, None) if store else None
        return _seconds(ti.get_first_reschedule_date(context)) if started_at is None else float(started_at)
    started_at = _seconds(ti.start_date)
    if store:
        store.set(key, started_at)
    return started_at


def _seconds(date: datetime | None) -> float:
    return time.time() if date is None else date.timestamp()


def raise_on_sigterm() -> None:
    """Raise what ends a task whose process received SIGTERM, unless Airflow does so itself, as Airflow 2."""
    if not _IS_AIRFLOW_2:
        raise AirflowException("Airflow is ending the task (SIGTERM).")


def can_end_from_trigger() -> bool:
    """Return whether a trigger can mark a task as successful and push its return value."""
    if _IS_AIRFLOW_2:
        return True
    from airflow.sdk.bases.xcom import BaseXCom

    return hasattr(BaseXCom, "aset")


async def task_success(task_instance: Any, value: Any, *, do_xcom_push: bool) -> TriggerEvent:
    """
    Return the event that marks the trigger's task as successful.

    :param task_instance: task instance of the trigger.
    :param value: return value of the task.
    :param do_xcom_push: whether to push the return value as an XCom.
    :return: the event to yield.
    """
    from airflow.triggers.base import TaskSuccessEvent

    if _IS_AIRFLOW_2:
        return TaskSuccessEvent(xcoms={XCOM_RETURN_KEY: value} if do_xcom_push else None)
    if do_xcom_push:
        from airflow.sdk.execution_time.xcom import XCom

        # Not TaskSuccessEvent(xcoms=...): Airflow 3.3 would encode the value as JSON twice.
        await XCom.aset(
            key=XCOM_RETURN_KEY,
            value=value,
            dag_id=task_instance.dag_id,
            task_id=task_instance.task_id,
            run_id=task_instance.run_id,
            map_index=task_instance.map_index,
        )
    return TaskSuccessEvent()


def is_mapped(operator: BaseOperator) -> bool:
    """
    Return whether an operator was made by ``.expand()``: its arguments were resolved before it existed.

    :param operator: the operator.
    """
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def task_state_store(context: Context) -> Any:
    """
    Return the store whose values persist over the tries of a task.

    :param context: the task's context.
    :return: the store, or None below Airflow 3.3.
    """
    return context.get("task_state_store")


def asset_state(context: Context, inlets: Any) -> Any:
    """
    Return the state of the only asset among a task's inlets, whose values persist over its runs.

    :param context: the task's context.
    :param inlets: the task's inlets.
    :return: the state; None if there is not one asset, or below Airflow 3.3.
    """
    states: Any = context.get("asset_state_store")
    if states is None:
        return None
    from airflow.sdk import Asset

    assets = [inlet for inlet in inlets if isinstance(inlet, Asset)]
    return states[assets[0]] if len(assets) == 1 else None


def asset_with_watcher(name: str, make_trigger: Callable[[], Any]) -> Any:
    """
    Return an asset whose trigger can read its state.

    :param name: name of the asset and of its watcher.
    :param make_trigger: returns the trigger.
    :return: the asset; None below Airflow 3.3.
    """
    if AIRFLOW_VERSION < (3, 3):
        return None
    from airflow.sdk import Asset, AssetWatcher

    return Asset(name, watchers=[AssetWatcher(name=name, trigger=make_trigger())])


def try_number(context: Context) -> int:
    """
    Return the number of the current try, starting at 1.

    :param context: the task's context. If it has no task instance, as in a unit test, the number is 1.
    """
    ti: Any = context.get("ti")
    return 1 if ti is None else int(ti.try_number)


def is_automatic_retry(context: Context) -> bool:
    """
    Return whether this try is an automatic retry, and not the first try or a try after the task was cleared.

    :param context: the task's context.
    """
    ti: Any = context.get("ti")
    if ti is None:
        return False
    first_since_clear = (ti.max_tries or 0) - (ti.task.retries or 0) + 1
    return bool(ti.try_number > max(first_since_clear, 1))
