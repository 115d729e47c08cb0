"""The control: leaks a value in each place where the search must find one."""

from __future__ import annotations

import base64
import json
import logging
import urllib.parse
from typing import TYPE_CHECKING, Any

import people
import requests
from airflow.providers.common.compat.sdk import BaseOperator, dag, task

if TYPE_CHECKING:
    from collections.abc import Sequence


class PlainOperator(BaseOperator):
    """Has an ordinary template field, and fails."""

    template_fields: Sequence[str] = ("attributes",)

    def __init__(self, *, attributes: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attributes = attributes

    def execute(self, context: Any) -> None:
        raise ValueError(people.read("control")["raised"])


@dag(schedule=None, catchup=False, user_defined_macros={"read": people.read})
def careless() -> None:
    PlainOperator(task_id="rendered", attributes={"address": "{{ read('control').rendered }}"})

    @task
    def leak(**context: Any) -> str:
        control = people.read("control")
        print(control["printed"])
        logging.getLogger(__name__).debug(control["debug"])
        print(json.dumps(control["JSON"]), urllib.parse.quote(control["URL"]))
        print(base64.b64encode(f"of {control['base64']}".encode()).decode())
        url = context["dag_run"].conf["url"]
        requests.get(url, params={"authentication_token": control["token"]}, timeout=30)
        return str(control["returned"])

    leak()


print(people.read("control")["parsed"])
careless()
