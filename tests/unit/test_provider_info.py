"""The provider's description, and how Airflow discovers and uses it."""

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
from airflow_provider_webcamconsult.version_compat import AIRFLOW_VERSION
from devtools import ROOT

# Before 3.2, Airflow builds the form from the hook; 3.0 and 3.1 do so only with the FAB provider installed.
HAS_FORM = AIRFLOW_VERSION >= (3, 2) or importlib.util.find_spec("wtforms") is not None
DISTRIBUTION = "airflow-provider-webcamconsult"


def schema(name: str) -> Any:
    return json.loads((Path(airflow.__file__).parent / f"{name}.schema.json").read_text())


def test_provider_info_matches_runtime_schema() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info"))


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="the schema covers the whole form since Airflow 3.3")
def test_connection_type_matches_airflow_3_schema() -> None:
    # The runtime schema does not validate the form fields.
    (form,) = get_provider_info()["connection-types"]
    connection_types = schema("provider.yaml")["properties"]["connection-types"]
    allowed = connection_types["items"]["properties"].keys()
    jsonschema.validate([form], connection_types)
    assert form.keys() <= allowed


def test_ui_field_behaviour_matches_airflow_2_schema() -> None:
    jsonschema.validate(
        WebcamconsultHook.get_ui_field_behaviour(), schema("customized_form_field_behaviours")
    )


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_field_accepts_null_and_its_default(name: str) -> None:
    for value in (None, CONNECTION_FIELDS[name]["schema"]["default"]):
        jsonschema.validate(value, CONNECTION_FIELDS[name]["schema"])


def test_boolean_fields_default_to_false() -> None:
    # Airflow 2 shows a stored "off" as "on" if "on" is the default.
    defaults = {
        field["schema"]["default"]
        for field in CONNECTION_FIELDS.values()
        if "boolean" in field["schema"]["type"]
    }
    assert defaults == {False}


def test_standard_fields_are_not_hidden() -> None:
    # Airflow 3.3.2 cannot test a connection without a port field, nor Airflow 2 one with a hidden extra.
    (form,) = get_provider_info()["connection-types"]
    assert not {"host", "port", "password", "extra"} & set(form["ui-field-behaviour"]["hidden-fields"])


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_field_value_is_not_masked(name: str) -> None:
    if AIRFLOW_VERSION >= (3, 1):
        masker = import_module("airflow.sdk._shared.secrets_masker.secrets_masker")
    elif AIRFLOW_VERSION == (3, 0):
        masker = import_module("airflow.sdk.execution_time.secrets_masker")
    else:
        masker = import_module("airflow.utils.log.secrets_masker")
    assert masker.should_hide_value_for_key("auth_token")
    assert not masker.should_hide_value_for_key(name)


def modules(kind: str) -> list[str]:
    return [module for entry in get_provider_info()[kind] for module in entry["python-modules"]]


def is_for_dags(path: str) -> bool:
    """Return whether a module has a class for DAGs; other modules only help them."""
    return any(
        name.startswith("Webcamconsult")
        and not name.endswith("BaseOperator")
        and getattr(value, "__module__", None) == path
        for name, value in vars(import_module(path)).items()
    )


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_each_module_is_listed_exactly_once(kind: str) -> None:
    package = import_module(f"airflow_provider_webcamconsult.{kind}")
    paths = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    existing = filter(is_for_dags, paths)
    assert Counter(modules(kind)) == Counter(existing)
    for module in modules(kind):
        import_module(module)


def test_each_listed_module_belongs_to_a_described_integration() -> None:
    info = get_provider_info()
    described = {integration["integration-name"] for integration in info["integrations"]}
    for kind in ("operators", "sensors", "hooks", "triggers"):
        assert {entry["integration-name"] for entry in info[kind]} <= described


def test_connection_type_matches_hook() -> None:
    (form,) = get_provider_info()["connection-types"]
    module, _, name = form["hook-class-name"].rpartition(".")
    assert getattr(import_module(module), name) is WebcamconsultHook
    assert (form["connection-type"], form["hook-name"]) == (
        WebcamconsultHook.conn_type,
        WebcamconsultHook.hook_name,
    )


def test_form_labels_match_field_names_in_errors() -> None:
    labels = UI_FIELD_BEHAVIOUR["relabeling"]
    assert labels["host"].startswith("Host")
    assert labels["port"].startswith("Port")
    assert labels["password"] == "API token"
    assert labels.keys() <= UI_FIELD_BEHAVIOUR["placeholders"].keys()


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_field_has_label_and_description(name: str) -> None:
    field = CONNECTION_FIELDS[name]
    assert 5 <= len(field["label"]) <= 40
    assert 20 <= len(field["description"]) <= 100
    assert field["description"].endswith(".")


# Airflow 2's form


@pytest.fixture
def form() -> Any:
    """Return the form class that Airflow 2 builds from the hook's fields."""
    wtforms = pytest.importorskip("wtforms", reason="only Airflow 2 has this form")
    return type("ConnectionForm", (wtforms.Form,), WebcamconsultHook.get_connection_form_widgets())


class FormData(dict[str, str]):
    """Form data as a browser sends it."""

    def getlist(self, name: str) -> list[str]:
        return [self[name]] if name in self else []


def test_airflow_2_form_shows_label_and_default_of_each_field(form: Any) -> None:
    shown = {field.name: (field.label.text, field.default) for field in form()}
    assert shown == {
        name: (field["label"], field["schema"]["default"]) for name, field in CONNECTION_FIELDS.items()
    }


def test_airflow_2_form_renders_each_field(form: Any) -> None:
    for field in form():
        assert f'name="{field.name}"' in field()


def test_airflow_2_form_accepts_blank_fields(form: Any) -> None:
    filled = form(FormData(timezone="", timeout="", retries=""))
    assert filled.validate(), filled.errors


def test_airflow_2_form_accepts_values(form: Any) -> None:
    filled = form(FormData(timezone="UTC", timeout="2.5", retries="1", insecure="y"))
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
os.environ["AIRFLOW_CONN_EXAMPLE"] = '{"conn_type": "webcamconsult", "password": "a-token"}'
from airflow.models import Connection
example = Connection.get_connection_from_secrets("example").get_hook()
print("FOUND " + json.dumps({
    "version": provider.version,
    "hook": hook.hook_class_name,
    "name": hook.hook_name,
    "connection id": hook.connection_id_attribute_name,
    "testable": hook.connection_testable,
    "hook of a connection": [type(example).__name__, example.webcamconsult_conn_id],
    "fields": sorted(name for name in manager.connection_form_widgets if "webcamconsult" in name),
    "relabeling": manager.field_behaviours.get("webcamconsult", {}).get("relabeling"),
}))
"""


@pytest.fixture
def python_path(tmp_path: Path) -> str:
    """Return a path with the provider installed; if it is not, write the metadata that pip would write."""
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


def test_airflow_discovers_provider_without_warnings(python_path: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _DISCOVER],
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (found,) = re.findall(r"^FOUND (.*)", result.stdout, re.MULTILINE)
    assert json.loads(found) == {
        "version": airflow_provider_webcamconsult.__version__,
        "hook": "airflow_provider_webcamconsult.hooks.webcamconsult.WebcamconsultHook",
        "name": "Webcamconsult",
        "connection id": "webcamconsult_conn_id",
        "testable": True,
        "hook of a connection": ["WebcamconsultHook", "example"],
        "fields": sorted(f"extra__webcamconsult__{name}" for name in CONNECTION_FIELDS if HAS_FORM),
        "relabeling": UI_FIELD_BEHAVIOUR["relabeling"] if HAS_FORM else None,
    }
    lines = [
        line
        for line in (result.stdout + result.stderr).splitlines()
        if "webcamconsult" in line.lower() and not line.startswith("FOUND ")
    ]
    assert not [line for line in lines if re.search("warn|error|exception", line, re.IGNORECASE)]
