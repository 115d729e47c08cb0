"""
The layers of the package, and which folders may import which.

Imports are read from the source, so that imports for type checkers and inside functions count too.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import pytest

from devtools import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    Graph = Mapping[str, Collection[str]]
    """The names that each module imports."""

PACKAGE = "airflow_provider_webcamconsult"

LAYERS = (
    "__init__",
    "version_compat",
    "exceptions",
    "api",
    "get_provider_info",
    "connection",
    "session",
    "network_failures",
    "transport",
    "record_requests",
    "create_checkpoint",
    "create_result",
    "idempotent_create",
    "records",
    "appointments",
    "sync",
    "hooks",
    "polling",
    "triggers",
    "sensors",
    "operators",
)
"""The modules and subpackages of the package, bottom up: each may import only earlier ones."""

STANDALONE = "sandbox"
"""It imports no layer, and no layer imports it."""

NOT_IN_API = {"airflow", "requests", "urllib3"}
"""Libraries that the pure part of the package must not import."""

USED_BY_API = {"api", "exceptions"}
"""
Modules that it may import. Every layer raises the exceptions, which depend on Airflow: the class of an error
decides whether Airflow retries the task.
"""

MUST_NOT_IMPORT = {
    PACKAGE: {"benchmarks", "devtools", "scripts", "tests"},
    "devtools": {"benchmarks", "scripts", "tests"},
    "benchmarks": {"scripts", "tests"},
    "scripts": {"benchmarks", "tests"},
    "tests": {"benchmarks", "scripts"},
}
"""The top-level names that each top-level folder must not import."""

SCRIPT_FOLDERS = ("benchmarks", "scripts")
"""Their files are run by path, so they import each other without the folder's name."""


def module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(source: str, package: str, known: Collection[str]) -> set[str]:
    """
    Return the names of all modules that a source imports.

    :param source: the text of a module.
    :param package: the package of the module, for relative imports.
    :param known: names of modules, to distinguish an imported module from an imported name.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in known else base for name in names}
    return found


def read_graph(root: Path, folders: Collection[str]) -> dict[str, set[str]]:
    """Return the imports of each module in folders of a checkout."""
    files = {
        module_name(file, root): file for folder in folders for file in sorted((root / folder).rglob("*.py"))
    }
    return {
        name: read_imports(
            file.read_text(encoding="utf-8"),
            name if file.name == "__init__.py" else name.rpartition(".")[0],
            files,
        )
        for name, file in files.items()
    }


def find_cycle(graph: Graph) -> list[str]:
    """Return modules that import each other in a circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle[::-1]
    return []


def component(module: str) -> str:
    """Return the top-level module or subpackage of the package that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def find_upward_imports(graph: Graph, layers: Sequence[str]) -> list[str]:
    """Return each import of a higher layer, or of a component without a layer, by a layer."""
    rank = {name: number for number, name in enumerate(layers)}
    return sorted(
        f"{module} imports {imported}"
        for module, imports in graph.items()
        for imported in imports
        if component(module) in rank and rank.get(component(imported), len(rank)) > rank[component(module)]
    )


def find_forbidden_imports(graph: Graph, rules: Mapping[str, Collection[str]]) -> list[str]:
    """
    Return each import that the rules forbid.

    :param graph: the modules of all folders.
    :param rules: the top-level names that each folder must not import.
    """
    scripts = {name.partition(".")[2]: name for name in graph if name.partition(".")[0] in SCRIPT_FOLDERS}
    return sorted(
        f"{module} imports {imported}"
        for module, imports in graph.items()
        for imported in imports
        if scripts.get(imported, imported).split(".")[0] in rules.get(module.split(".")[0], ())
    )


def within(graph: Graph, package: str) -> dict[str, set[str]]:
    """Return the part of a graph that is within a package."""

    def is_in(name: str) -> bool:
        return name == package or name.startswith(f"{package}.")

    return {name: {*filter(is_in, imports)} for name, imports in graph.items() if is_in(name)}


@cache
def checkout() -> dict[str, set[str]]:
    return read_graph(ROOT, MUST_NOT_IMPORT)


class TestPackage:
    def test_has_no_import_cycle(self) -> None:
        assert find_cycle(within(checkout(), PACKAGE)) == []

    def test_every_module_has_a_layer(self) -> None:
        components = {component(module) for module in within(checkout(), PACKAGE)}
        assert components == {*LAYERS, STANDALONE}

    def test_no_layer_imports_a_higher_layer(self) -> None:
        assert find_upward_imports(within(checkout(), PACKAGE), LAYERS) == []

    def test_api_imports_neither_io_nor_airflow(self) -> None:
        api = {name: imports for name, imports in checkout().items() if name.startswith(f"{PACKAGE}.api.")}
        assert api
        assert find_forbidden_imports(api, {PACKAGE: NOT_IN_API}) == []
        used = {component(name) for imports in within(api, PACKAGE).values() for name in imports}
        assert used <= USED_BY_API

    def test_sandbox_imports_nothing_else_of_the_package(self) -> None:
        sandbox = within(checkout(), f"{PACKAGE}.{STANDALONE}")
        assert sandbox
        imported = set[str]().union(*(within(checkout(), PACKAGE)[name] for name in sandbox))
        assert {component(name) for name in imported} == {STANDALONE}


class TestCheckout:
    @pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
    def test_folder_imports_nothing_forbidden(self, folder: str) -> None:
        assert any(name.startswith(f"{folder}.") for name in checkout())
        assert find_forbidden_imports(checkout(), {folder: MUST_NOT_IMPORT[folder]}) == []

    def test_devtools_are_shared(self) -> None:
        importers = {name.split(".")[0] for name, imports in checkout().items() if "devtools" in imports}
        assert importers == {"benchmarks", "devtools", "scripts", "tests"}

    def test_make_environment_imports_only_standard_library(self) -> None:
        imported = {name.split(".")[0] for name in checkout()["scripts.make_environment"]}
        assert imported <= sys.stdlib_module_names

    def test_first_dag_imports_only_airflow_and_provider(self) -> None:
        # Only the wheel and Airflow are installed where this script runs.
        imported = {name.split(".")[0] for name in checkout()["scripts.first_dag"]}
        assert imported <= sys.stdlib_module_names | {PACKAGE, "airflow"}


class TestReadImports:
    @pytest.mark.parametrize(
        ("source", "imports"),
        [
            ("import a", {"a"}),
            ("import a.b, c as d", {"a.b", "c"}),
            ("from a import name", {"a"}),
            ("from a import b, name", {"a.b", "a"}),
            ("from a import *", {"a"}),
            ("from . import name", {"p.q"}),
            ("from .r import name", {"p.q.r"}),
            ("from .. import s, name", {"p.s", "p"}),
            ("from ..s import name", {"p.s"}),
            ("if TYPE_CHECKING:\n    import a", {"a"}),
            ("def f():\n    from a import b", {"a.b"}),
            ("try:\n    import a\nexcept ImportError:\n    import c", {"a", "c"}),
            ("class C:\n    async def f(self):\n        import a", {"a"}),
            ("'import a'  # import a", set()),
        ],
    )
    def test_finds_every_kind_of_import(self, source: str, imports: set[str]) -> None:
        assert read_imports(source, "p.q", {"a", "a.b", "p.q.r", "p.s"}) == imports

    def test_names_the_modules_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "p" / "q").mkdir(parents=True)
        (tmp_path / "p" / "__init__.py").write_text("from .one import name")
        (tmp_path / "p" / "one.py").write_text("from p import q")
        (tmp_path / "p" / "q" / "__init__.py").write_text("from . import two")
        (tmp_path / "p" / "q" / "two.py").write_text("from ..one import name")
        assert read_graph(tmp_path, ["p"]) == {
            "p": {"p.one"},
            "p.one": {"p.q"},
            "p.q": {"p.q.two"},
            "p.q.two": {"p.one"},
        }


class TestFindCycle:
    @pytest.mark.parametrize(
        ("graph", "cycle"),
        [
            ({"a": ["a"]}, {"a"}),
            ({"a": ["b"], "b": ["a"]}, {"a", "b"}),
            ({"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": []}, {"a", "b", "c"}),
            ({"a": ["b"], "b": ["c"], "c": ["d"], "d": ["c"]}, {"c", "d"}),
        ],
    )
    def test_returns_modules_in_import_order(self, graph: dict[str, list[str]], cycle: set[str]) -> None:
        found = find_cycle(graph)
        assert {*found} == cycle
        assert found[0] == found[-1]
        assert all(second in graph[first] for first, second in pairwise(found))

    @pytest.mark.parametrize(
        "graph",
        [
            {},
            {"a": []},
            {"a": ["b"], "b": ["c"], "c": []},
            {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []},
        ],
    )
    def test_returns_nothing_without_a_cycle(self, graph: dict[str, list[str]]) -> None:
        assert find_cycle(graph) == []


class TestFindUpwardImports:
    layers = ("__init__", "low", "high")

    @pytest.mark.parametrize(
        ("module", "imported"),
        [
            ("p.low", "p.high"),
            ("p.low.x", "p.high.y"),
            ("p", "p.low"),
            ("p.high", "p.without_layer"),
        ],
    )
    def test_finds_violations(self, module: str, imported: str) -> None:
        assert find_upward_imports({module: [imported]}, self.layers) == [f"{module} imports {imported}"]

    @pytest.mark.parametrize(
        ("module", "imported"),
        [
            ("p.high", "p.low"),
            ("p.high.x", "p.low.y"),
            ("p.high.x", "p.high.y"),
            ("p.high", "p"),
            ("p.without_layer", "p.high"),
        ],
    )
    def test_ignores_other_imports(self, module: str, imported: str) -> None:
        assert find_upward_imports({module: [imported]}, self.layers) == []


class TestFindForbiddenImports:
    rules: ClassVar = {"tests": {"scripts", "benchmarks"}, "scripts": {"tests"}}

    @pytest.mark.parametrize(
        ("module", "imported"),
        [
            ("tests.unit.test_a", "scripts.run"),
            ("tests.unit.test_a", "scripts"),
            ("tests.unit.test_a", "run"),
            ("tests.unit.test_a", "run_fast"),
            ("scripts.other", "tests.unit.test_a"),
        ],
    )
    def test_finds_violations(self, module: str, imported: str) -> None:
        graph = {"scripts.run": [], "benchmarks.run_fast": [], module: [imported]}
        assert find_forbidden_imports(graph, self.rules) == [f"{module} imports {imported}"]

    @pytest.mark.parametrize(
        ("module", "imported"),
        [
            ("tests.unit.test_a", "tests.unit.conftest"),
            ("tests.unit.test_a", "scripts_of_others"),
            ("tests.unit.test_a", "a.scripts"),
            ("scripts.other", "run"),
            ("devtools.tool", "tests.unit.test_a"),
        ],
    )
    def test_ignores_other_imports(self, module: str, imported: str) -> None:
        graph = {"scripts.run": [], "benchmarks.run_fast": [], module: [imported]}
        assert find_forbidden_imports(graph, self.rules) == []
