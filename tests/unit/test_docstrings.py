"""Docstrings document each public parameter, for the reference and for editors."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import airflow_provider_webcamconsult

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = airflow_provider_webcamconsult.__name__
#: Internals of the sandbox; its public names are in the sandbox package itself.
NOT_PUBLIC = (f"{PACKAGE}.sandbox.app", f"{PACKAGE}.sandbox.service")
NOT_DOCUMENTED = {"self", "cls", "kwargs"}


def public_modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(airflow_provider_webcamconsult.__path__, f"{PACKAGE}."):
        if found.name not in NOT_PUBLIC and not re.search(r"\._", found.name):
            yield importlib.import_module(found.name)


def public_callables() -> Iterator[tuple[str, Any, list[str]]]:
    """Yield each public callable with its name and the docstrings, own and inherited, of its parameters."""
    for module in public_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value, [inspect.getdoc(value) or ""]
            elif inspect.isclass(value):
                yield from _of_class(f"{module.__name__}.{name}", value)


def _of_class(name: str, value: type) -> Iterator[tuple[str, Any, list[str]]]:
    init = vars(value).get("__init__")
    if init and init.__module__ == value.__module__:
        yield name, init, [vars(base).get("__doc__") or "" for base in value.__mro__]
    for method_name, method in vars(value).items():
        function = getattr(method, "__func__", method)
        if not method_name.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{method_name}", function, [inspect.getdoc(function) or ""]


CALLABLES = list(public_callables())


def documented(docstring: str) -> set[str]:
    return set(re.findall(r":param (\w+): \S", docstring))


def parameters(function: Any) -> set[str]:
    return {name for name in inspect.signature(function).parameters if not name.startswith("_")}


def test_every_public_parameter_is_documented() -> None:
    undocumented = {
        name: parameters(function) - NOT_DOCUMENTED - set().union(*map(documented, docstrings))
        for name, function, docstrings in CALLABLES
    }
    assert {name: names for name, names in undocumented.items() if names} == {}


def test_docstring_documents_only_existing_parameters() -> None:
    unknown = {name: documented(own) - parameters(function) for name, function, (own, *_) in CALLABLES}
    assert {name: names for name, names in unknown.items() if names} == {}


def test_the_public_callables_are_found() -> None:
    names = {name.rpartition(".")[2] for name, _, _ in CALLABLES}
    assert {
        "WebcamconsultHook",
        "WebcamconsultCreateClientOperator",
        "iterate",
        "webcamconsult_changes",
    } <= names
