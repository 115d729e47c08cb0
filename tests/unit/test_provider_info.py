"""What Airflow learns of the provider when it discovers it, and makes of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_webcamconsult
from airflow_provider_webcamconsult.get_provider_info import (
    CONNECTION_FIELDS,
    UI_FIELD_BEHAVIOUR,
    get_provider_info,
)
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from devtools import ROOT

AIRFLOW = tuple(int(part) for part in airflow.__version__.split(".")[:2])
# Below 3.2 Airflow makes the form of what the hook says; 3.0 and 3.1 can do so only beside the FAB provider.
MAKES_A_FORM = AIRFLOW >= (3, 2) or importlib.util.find_spec("wtforms") is not None
DISTRIBUTION = "airflow-provider-webcamconsult"


def schema(name: str) -> Any:
    return json.loads((Path(airflow.__file__).parent / f"{name}.schema.json").read_text())


def test_the_info_is_as_airflow_wants_it_when_it_runs() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info"))


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow describes all of the form from 3.3 on")
def test_the_form_is_as_airflow_3_wants_it() -> None:
    # The schema for when Airflow runs looks past the fields of the form.
    (form,) = get_provider_info()["connection-types"]
    connection_types = schema("provider.yaml")["properties"]["connection-types"]
    known = connection_types["items"]["properties"].keys()
    jsonschema.validate([form], connection_types)
    assert form.keys() <= known


def test_the_form_of_the_hook_is_as_airflow_2_wants_it() -> None:
    jsonschema.validate(
        WebcamconsultHook.get_ui_field_behaviour(), schema("customized_form_field_behaviours")
    )


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_a_field_may_be_left_blank_and_has_a_default_of_its_kind(name: str) -> None:
    for value in (None, CONNECTION_FIELDS[name]["schema"]["default"]):
        jsonschema.validate(value, CONNECTION_FIELDS[name]["schema"])


def test_a_switch_is_off_by_default() -> None:
    # Airflow 2 shows a stored "off" as "on" where "on" is the default.
    defaults = {
        field["schema"]["default"]
        for field in CONNECTION_FIELDS.values()
        if "boolean" in field["schema"]["type"]
    }
    assert defaults == {False}


def test_the_port_and_the_extras_can_be_seen() -> None:
    # Airflow 3.3.2 cannot test a connection without a port, Airflow 2 none whose extras are hidden.
    (form,) = get_provider_info()["connection-types"]
    assert not {"host", "port", "password", "extra"} & set(form["ui-field-behaviour"]["hidden-fields"])


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_the_value_of_a_field_is_not_masked(name: str) -> None:
    if AIRFLOW >= (3, 1):
        masker = import_module("airflow.sdk._shared.secrets_masker.secrets_masker")
    elif AIRFLOW == (3, 0):
        masker = import_module("airflow.sdk.execution_time.secrets_masker")
    else:
        masker = import_module("airflow.utils.log.secrets_masker")
    assert masker.should_hide_value_for_key("auth_token")
    assert not masker.should_hide_value_for_key(name)


def modules(kind: str) -> list[str]:
    return [module for entry in get_provider_info()[kind] for module in entry["python-modules"]]


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_each_module_is_named_once_and_each_name_is_a_module(kind: str) -> None:
    package = import_module(f"airflow_provider_webcamconsult.{kind}")
    there = {
        f"{package.__name__}.{module.name}"
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "base"
    }
    assert Counter(modules(kind)) == Counter(there)
    for module in modules(kind):
        import_module(module)


def test_each_kind_of_module_is_of_an_integration_that_is_described() -> None:
    info = get_provider_info()
    described = {integration["integration-name"] for integration in info["integrations"]}
    for kind in ("operators", "sensors", "hooks", "triggers"):
        assert {entry["integration-name"] for entry in info[kind]} <= described


def test_the_connection_type_is_that_of_the_hook() -> None:
    (form,) = get_provider_info()["connection-types"]
    module, _, name = form["hook-class-name"].rpartition(".")
    assert getattr(import_module(module), name) is WebcamconsultHook
    assert (form["connection-type"], form["hook-name"]) == (
        WebcamconsultHook.conn_type,
        WebcamconsultHook.hook_name,
    )


def test_a_field_that_an_error_speaks_of_is_found_in_the_form() -> None:
    labels = UI_FIELD_BEHAVIOUR["relabeling"]
    assert labels["host"].startswith("Host")
    assert labels["port"].startswith("Port")
    assert labels["password"] == "API token"
    assert labels.keys() <= UI_FIELD_BEHAVIOUR["placeholders"].keys()


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_a_field_has_a_label_and_a_sentence_of_help(name: str) -> None:
    field = CONNECTION_FIELDS[name]
    assert 5 <= len(field["label"]) <= 40
    assert 20 <= len(field["description"]) <= 100
    assert field["description"].endswith(".")


# Airflow 2's form


@pytest.fixture
def form() -> Any:
    """Make the form class that Airflow 2 makes of the hook's fields."""
    wtforms = pytest.importorskip("wtforms", reason="Airflow 3 does not have the form of Airflow 2")
    return type("ConnectionForm", (wtforms.Form,), WebcamconsultHook.get_connection_form_widgets())


class Entered(dict[str, str]):
    """What a browser sends."""

    def getlist(self, name: str) -> list[str]:
        return [self[name]] if name in self else []


def test_airflow_2_shows_each_field_with_its_label_and_default(form: Any) -> None:
    shown = {field.name: (field.label.text, field.default) for field in form()}
    assert shown == {
        name: (field["label"], field["schema"]["default"]) for name, field in CONNECTION_FIELDS.items()
    }


def test_airflow_2_can_draw_each_field(form: Any) -> None:
    for field in form():
        assert f'name="{field.name}"' in field()


def test_airflow_2_takes_a_form_that_is_left_blank(form: Any) -> None:
    filled = form(Entered(timezone="", timeout="", retries=""))
    assert filled.validate(), filled.errors


def test_airflow_2_takes_a_form_that_is_filled_in(form: Any) -> None:
    filled = form(Entered(timezone="UTC", timeout="2.5", retries="1", insecure="y"))
    assert filled.validate(), filled.errors
    assert filled.data == {
        "timezone": "UTC",
        "timeout": "2.5",
        "retries": 1,
        "auth_as_parameter": False,
        "plural_paths": False,
        "insecure": True,
    }


# Discovery

_DISCOVER = """
import json, os
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
provider = manager.providers["airflow-provider-webcamconsult"]
hook = manager.hooks["webcamconsult"]
os.environ["AIRFLOW_CONN_TRIED"] = '{"conn_type": "webcamconsult", "password": "a-token"}'
from airflow.models import Connection
tried = Connection.get_connection_from_secrets("tried").get_hook()
print("FOUND " + json.dumps({
    "version": provider.version,
    "hook": hook.hook_class_name,
    "shown as": hook.hook_name,
    "connection id": hook.connection_id_attribute_name,
    "testable": hook.connection_testable,
    "hook of a connection": [type(tried).__name__, tried.webcamconsult_conn_id],
    "fields": sorted(name for name in manager.connection_form_widgets if "webcamconsult" in name),
    "relabeling": manager.field_behaviours.get("webcamconsult", {}).get("relabeling"),
}))
"""


@pytest.fixture
def python_path(tmp_path: Path) -> str:
    """Give a path with the provider installed: as it is, or else by the metadata that pip would write."""
    paths = [str(ROOT), *sys.path]
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        (entry_point,) = re.findall(
            r'^\[project\.entry-points\.(\w+)\]\n(\w+) = "(.+)"',
            (ROOT / "pyproject.toml").read_text(),
            re.MULTILINE,
        )
        metadata = tmp_path / f"{airflow_provider_webcamconsult.__name__}-0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\n"
            f"Version: {airflow_provider_webcamconsult.__version__}\n"
        )
        (metadata / "entry_points.txt").write_text("[{}]\n{} = {}\n".format(*entry_point))
        paths.append(str(tmp_path))
    return os.pathsep.join(paths)


def test_airflow_discovers_the_provider_without_a_warning(python_path: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _DISCOVER],
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (found,) = re.findall(r"^FOUND (.*)", run.stdout, re.MULTILINE)
    assert json.loads(found) == {
        "version": airflow_provider_webcamconsult.__version__,
        "hook": "airflow_provider_webcamconsult.hooks.webcamconsult.WebcamconsultHook",
        "shown as": "Webcamconsult",
        "connection id": "webcamconsult_conn_id",
        "testable": True,
        "hook of a connection": ["WebcamconsultHook", "tried"],
        "fields": sorted(f"extra__webcamconsult__{name}" for name in CONNECTION_FIELDS if MAKES_A_FORM),
        "relabeling": UI_FIELD_BEHAVIOUR["relabeling"] if MAKES_A_FORM else None,
    }
    said = [
        line
        for line in (run.stdout + run.stderr).splitlines()
        if "webcamconsult" in line.lower() and not line.startswith("FOUND ")
    ]
    assert not [line for line in said if re.search("warn|error|exception", line, re.IGNORECASE)]
