"""Run a sensor as Airflow does."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred


def defer(sensor: Any) -> TaskDeferred:
    """Run a sensor on the worker, which has to end with its deferral."""
    with pytest.raises(TaskDeferred) as raised:
        sensor.execute({})
    return raised.value


def run_to_end(sensor: Any) -> Any:
    """Run a sensor to its end: on the worker, or deferred to the triggerer and back."""
    try:
        return sensor.execute({})
    except TaskDeferred as deferred:
        trigger = restore(*json.loads(json.dumps(deferred.trigger.serialize())))

        async def first_event() -> Any:
            return await anext(event.payload async for event in trigger.run())

        event = json.loads(json.dumps(asyncio.run(first_event())))
        return sensor.resume_execution(deferred.method_name, {"event": event, **(deferred.kwargs or {})}, {})


def restore(path: str, arguments: dict[str, Any]) -> Any:
    """Create a trigger from what Airflow has stored."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)(**arguments)
