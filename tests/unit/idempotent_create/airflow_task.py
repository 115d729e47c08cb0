"""A small stand-in for the Airflow task around an operator: its tries, and what outlives them."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from typing import Any

RETRIES = 2
RETRY_DELAY = datetime.timedelta(minutes=5)


class TaskStateStore:
    """Airflow 3.3's, of one task: it holds JSON alone, and outlives tries and clearing."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.history: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    def set(self, key: str, value: Any, **_retention: Any) -> None:
        assert value is not None
        self.kept[key] = json.dumps(value)
        self.history.append(self.kept[key])

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)

    def clear(self) -> None:
        self.kept.clear()

    def age(self, by: datetime.timedelta) -> None:
        """Let time go by: move each time stamp into the past."""
        for key, text in self.kept.items():
            value = json.loads(text)
            if "sent_at" in value:
                value["sent_at"] -= by.total_seconds()
            self.kept[key] = json.dumps(value)


@dataclass
class Task:
    """What the provider reads of a task instance's task."""

    retries: int = RETRIES
    retry_delay: datetime.timedelta = RETRY_DELAY


@dataclass
class TaskInstance:
    """
    A task instance, with or without Airflow 3.3's store.

    :param has_store: whether the Airflow has one.
    """

    has_store: bool
    task: Task = field(default_factory=Task)
    try_number: int = 1
    max_tries: int = RETRIES
    store: TaskStateStore = field(default_factory=TaskStateStore)

    @property
    def context(self) -> Any:
        """The context of the present try."""
        return {"ti": self, **({"task_state_store": self.store} if self.has_store else {})}

    def retry(self, after: datetime.timedelta | None = None) -> None:
        """Begin the next try as Airflow does by itself, ``retry_delay`` later unless it is said otherwise."""
        self.try_number += 1
        self.store.age(self.task.retry_delay if after is None else after)

    def clear(self) -> None:
        """Begin the next try as when a person clears the task, which grants it all its retries again."""
        self.max_tries = self.try_number + self.task.retries
        self.try_number += 1
        self.store.age(self.task.retry_delay)
