"""Whoever reads the reference, or asks an editor, is told what each parameter means."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import pytest

import airflow_provider_webcamconsult

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = airflow_provider_webcamconsult.__name__
#: The inside of the sandbox; what is public of it is in the sandbox's own module.
NOT_PUBLIC = (f"{PACKAGE}.sandbox.app", f"{PACKAGE}.sandbox.service")
NOT_DESCRIBED = {"self", "cls", "kwargs"}


def public_modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(airflow_provider_webcamconsult.__path__, f"{PACKAGE}."):
        if found.name not in NOT_PUBLIC and not re.search(r"\._", found.name):
            yield importlib.import_module(found.name)


def public_callables() -> Iterator[tuple[str, Any, list[str]]]:
    """Give each with its name and the docstrings that describe its parameters: its own and inherited ones."""
    for module in public_modules():
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing):
                yield f"{module.__name__}.{name}", thing, [inspect.getdoc(thing) or ""]
            elif inspect.isclass(thing):
                yield from _of_class(f"{module.__name__}.{name}", thing)


def _of_class(name: str, thing: type) -> Iterator[tuple[str, Any, list[str]]]:
    init = vars(thing).get("__init__")
    if init and init.__module__ == thing.__module__:
        yield name, init, [vars(base).get("__doc__") or "" for base in thing.__mro__]
    for method_name, method in vars(thing).items():
        function = getattr(method, "__func__", method)
        if not method_name.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{method_name}", function, [inspect.getdoc(function) or ""]


CALLABLES = [
    pytest.param(function, docstrings, id=name.removeprefix(f"{PACKAGE}."))
    for name, function, docstrings in public_callables()
]


def described(docstring: str) -> set[str]:
    return set(re.findall(r":param (\w+): \S", docstring))


def parameters(function: Any) -> set[str]:
    return {name for name in inspect.signature(function).parameters if not name.startswith("_")}


@pytest.mark.parametrize(("function", "docstrings"), CALLABLES)
def test_each_public_parameter_is_described(function: Any, docstrings: list[str]) -> None:
    told = set().union(*(described(docstring) for docstring in docstrings))
    assert parameters(function) - NOT_DESCRIBED - told == set()


@pytest.mark.parametrize(("function", "docstrings"), CALLABLES)
def test_no_parameter_is_described_that_is_not_there(function: Any, docstrings: list[str]) -> None:
    assert described(docstrings[0]) - parameters(function) == set()
