"""The examples in the README and the guides work, and the documents refer to things that exist."""

from __future__ import annotations

import datetime
import importlib
import inspect
import io
import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_webcamconsult.api.resources import APPOINTMENT, CLIENT, USER
from airflow_provider_webcamconsult.connection import Settings
from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS, get_provider_info
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.sandbox.__main__ import _parser
from airflow_provider_webcamconsult.version_compat import AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_webcamconsult.api.resources import Resource

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md", *DOCS.rglob("*.rst")])
RST_PAGES = [ROOT / "CHANGELOG.rst", *(page for page in PAGES if page.suffix == ".rst")]
PLUGIN = "airflow_provider_webcamconsult.sandbox.pytest_plugin"
README = (ROOT / "README.md").read_text()


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the code blocks of a page in Markdown or reStructuredText."""
    text = page.read_text()
    if page.suffix == ".md":
        yield from re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)
    else:
        for block in re.findall(rf"(?m)^\.\. code-block:: {language}\n\n((?: {{4}}.*\n|\n)+)", text):
            yield textwrap.dedent(block)


def examples(language: str) -> list[Any]:
    found = [(page.relative_to(ROOT), block) for page in PAGES for block in blocks(page, language)]
    return [pytest.param(block, id=f"{page}-{number}") for number, (page, block) in enumerate(found)]


def for_this_airflow(code: str) -> str:
    """Adapt an example to Airflow 2.11 as the README describes."""
    if AIRFLOW_VERSION < (3,):
        return code.replace("from airflow.sdk import dag", "from airflow.decorators import dag")
    return code


PYTHON = examples("python")
CONSOLE = "\n".join(str(example.values[0]) for example in examples("console"))


def test_examples_are_found() -> None:
    assert len(PYTHON) >= 9
    assert CONSOLE.count("airflow_provider_webcamconsult.sandbox") >= 2


def run(code: str) -> dict[str, Any]:
    """Run an example and return its variables."""
    variables: dict[str, Any] = {}
    exec(compile(for_this_airflow(code), "example", "exec"), variables)  # noqa: S102
    return variables


def dag_of(code: str) -> Any:
    name = code.rstrip().splitlines()[-1].removesuffix("()")
    return run(code)[name]()


@pytest.mark.parametrize("code", [example for example in PYTHON if "def test_" not in str(example.values[0])])
def test_example_runs(code: str, hook: WebcamconsultHook) -> None:
    if "operators.hitl" in code and AIRFLOW_VERSION < (3, 1):
        pytest.skip("Airflow has the operator from 3.1")
    if ("webcamconsult_changes" in code or "import Asset" in code) and AIRFLOW_VERSION < (3, 3):
        pytest.skip("Airflow keeps the state of assets from 3.3")
    if "@dag" in code:
        assert dag_of(code).tasks
    else:
        run(code)


def test_reuse_example_creates_one_client(hook: WebcamconsultHook, service: Any) -> None:
    (code,) = (code for code in blocks(DOCS / "guides" / "retries.rst", "python") if "@dag" in code)
    (task,) = dag_of(code).tasks

    ids = {task.execute({}) for _ in range(2)}

    assert ids == {client["id"] for client in service.records("clients")}
    assert len(ids) == 1


def test_example_selects_the_appointments_of_yesterday(hook: WebcamconsultHook) -> None:
    (code,) = (code for code in blocks(DOCS / "guides" / "exports.rst", "python") if "yesterday" in code)
    noon = datetime.datetime.now(ZoneInfo("Europe/Amsterdam")).replace(hour=12)
    ids = [
        hook.appointments.create({"date": noon - datetime.timedelta(days=days)})["id"] for days in range(3)
    ]

    (selected,) = run(code)["appointments_of_yesterday"]()

    assert selected == {"id": ids[1], "state": "idle"}


def test_callable_example_creates_a_client(hook: WebcamconsultHook, service: Any, tmp_path: Path) -> None:
    (code,) = blocks(DOCS / "guides" / "data-privacy.rst", "python")
    file = tmp_path / "clients.csv"
    file.write_text("reference_code,last_name\nDL-1,Ester\n")
    (task,) = dag_of(code.replace("/secure/clients.csv", str(file))).tasks

    task.execute({})

    assert [client["last_name"] for client in service.records("clients")] == ["Ester"]


def test_callable_example_of_a_sync_renames_columns_and_reads_dates(
    hook: WebcamconsultHook, service: Any, tmp_path: Path
) -> None:
    page = DOCS / "guides" / "syncing.rst"
    (code,) = (code for code in blocks(page, "python") if "csv.DictReader" in code)
    file = tmp_path / "export.csv"
    file.write_text(
        "".join(re.findall(r"(?m)^    (Klantnummer.*\n|PS-301;.*\n)", page.read_text())) + "PS-302;Lammers;\n"
    )
    (task,) = dag_of(code.replace("/secure/export.csv", str(file))).tasks

    task.execute({})

    clients = service.records("clients")
    assert {client["last_name"]: (client["date_of_birth"] or "")[:10] for client in clients} == {
        "Hendriks": "1948-07-09",
        "Lammers": "",
    }


def test_hook_example_sets_reference_code(hook: WebcamconsultHook) -> None:
    (code,) = blocks(DOCS / "reference" / "hook.rst", "python")
    client = hook.clients.create({"last_name": "Ester"})

    run(code)

    assert hook.clients.get(client["id"])["reference_code"] == f"DL-{client['id']}"


# Days of winter, summer and Amsterdam's own time, and one whose midnight was skipped.
@pytest.mark.parametrize(
    "day", ["1901-07-01", "1937-06-30", "1940-05-16", "1984-12-18", "2020-02-29", "2020-07-01"]
)
def test_day_of_birth_is_read_as_the_dates_guide_says(day: str, hook: WebcamconsultHook) -> None:
    expression = 'date.fromisoformat(client["date_of_birth"][:10])'
    assert f"day = {expression}\n" in (DOCS / "guides" / "dates.rst").read_text()
    client = hook.clients.create({"last_name": "Ester", "date_of_birth": day})

    assert str(eval(expression, {"date": datetime.date, "client": client})) == day  # noqa: S307


def test_pytest_example_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(blocks(DOCS / "guides" / "sandbox.rst", "python"))
    pytester.makepyfile(code)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.parametrize("text", sorted(set(re.findall(r"'(\{\s*\"conn_type\".*?\})'", CONSOLE))))
def test_connection_in_example_is_valid(text: str, connect: Any) -> None:
    connection = json.loads(text)
    settings = connect("https://example.com", token=connection["password"]).settings
    assert isinstance(settings, Settings)


@pytest.mark.parametrize(
    ("uri", "base_url", "timezone"),
    [
        ("webcamconsult://:YOUR_TOKEN@", "https://eapi.webcamconsult.com", "Europe/Amsterdam"),
        (
            "webcamconsult://:YOUR_TOKEN@http%3A%2F%2F127.0.0.1:8787/?timezone=Europe%2FBrussels&timeout=10",
            "http://127.0.0.1:8787",
            "Europe/Brussels",
        ),
    ],
)
def test_connection_uri_in_example_is_read_as_it_says(
    uri: str, base_url: str, timezone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"--conn-uri '{uri}'" in CONSOLE
    monkeypatch.setenv("AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT", uri)
    settings = WebcamconsultHook().settings
    assert (settings.base_url, settings.token) == (base_url, "YOUR_TOKEN")
    assert settings.timezone.name == timezone


@pytest.mark.parametrize("text", [example.values[0] for example in examples("json")])
def test_extras_in_example_are_valid(text: str, connect: Any) -> None:
    extra = json.loads(text)["extra"]
    settings = connect("https://example.com", **extra).settings
    assert {name: str(getattr(settings, name)) for name in extra} == {
        name: str(float(value)) if name == "timeout" else str(value) for name, value in extra.items()
    }


def test_sandbox_commands_in_examples_are_valid() -> None:
    lines = [line for line in CONSOLE.splitlines() if "-m airflow_provider_webcamconsult.sandbox" in line]
    for line in lines:
        options = _parser().parse_args(shlex.split(line.partition(".sandbox")[2]))
        assert options.states == "idle:5s,started:5s,finished"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_local_links_of_page_exist(page: Path) -> None:
    text = page.read_text()
    pattern = r"\]\(([^)#]+)(?:#[^)]*)?\)" if page.suffix == ".md" else r"<([^<>\s]+\.(?:rst|md|py))>`__"
    links = re.findall(pattern, text)
    links += re.findall(r"(?m)^\.\. (?:literalinclude|include|image):: (\S+)$", text)
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


# Where the code is hosted, reStructuredText is rendered without Sphinx and without including files.
@pytest.mark.parametrize("page", RST_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_can_be_read_without_building_it(page: Path) -> None:
    core = pytest.importorskip("docutils.core")
    report = io.StringIO()
    settings = {"file_insertion_enabled": False, "warning_stream": report, "halt_level": 5}

    core.publish_doctree(page.read_text(), settings_overrides=settings)

    problems = re.findall(r"\((?:WARNING|ERROR|SEVERE)/\d\) (.*)", report.getvalue())
    if page.is_relative_to(DOCS / "reference"):
        unknown = re.compile(r'Unknown directive type "(auto\w+|currentmodule|literalinclude)"\.')
        problems = [problem for problem in problems if not unknown.fullmatch(problem)]
    assert problems == []


@pytest.mark.parametrize(
    "page", sorted((DOCS / "reference").rglob("*.rst")), ids=lambda page: str(page.relative_to(DOCS))
)
def test_reference_links_to_the_code_that_only_the_built_page_shows(page: Path) -> None:
    text = page.read_text()
    assert text.split("\n\n")[1].startswith("Only the built page shows ")
    linked = {(page.parent / link).resolve() for link in re.findall(r"<([\w./-]+\.py)>`__", text)}
    included = re.findall(r"(?m)^\.\. literalinclude:: (\S+)$", text)
    assert {(page.parent / name).resolve() for name in included} <= linked
    assert any(path.is_relative_to(ROOT / "airflow_provider_webcamconsult") for path in linked)


#: How the reference shows the types of attributes that are not shown as they are written.
SHOWN_TYPES = {
    "TextInput": "str",
    "CodeInput": "str | int",
    "NumberInput": "int",
    "IdsInput": "list[str]",
    "Mapping[str, Any] | TaskOutput": "Mapping[str, Any]",
}


@pytest.mark.parametrize("resource", [USER, CLIENT, APPOINTMENT], ids=lambda resource: str(resource.name))
def test_reference_has_a_table_of_all_attributes(resource: Resource[Any, Any]) -> None:
    reference = (DOCS / "reference" / "attributes.rst").read_text()
    (section,) = re.findall(rf"(?ms)^{resource.plural.title()}\n-+\n(.*?)(?=^-+$|\Z)", reference)
    table = re.findall(r"\* - ``(\w+)``\n +- ``(.+)``\n +-(| yes)\n +-(| yes)\n", section)
    hints = {**resource.record.__annotations__, **resource.attributes.__annotations__}
    types = {name: hint.__forward_arg__.replace(" | None", "") for name, hint in hints.items()}
    assert table == [
        (
            name,
            SHOWN_TYPES.get(types[name], types[name]),
            " yes" if name in resource.read_only else "",
            "" if name in resource.non_personal else " yes",
        )
        for name in resource.known
    ]


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_connection_guide_describes_each_extra_as_the_form_does(name: str) -> None:
    field = CONNECTION_FIELDS[name]
    schema = field["schema"]
    limits = f", from {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
    expected = (
        f"``{name}`` *{field['label']}*. {field['description']} "
        f"Default: ``{json.dumps(schema['default'])}``{limits}."
    )
    guide = (DOCS / "guides" / "connection.rst").read_text()
    assert expected in " ".join(guide.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_in_page_exist(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text()))
    named = re.findall(r"`make ([a-z0-9-]+)|^(?: {4}|\$ )?make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)
    assert {first or second for first, second in named} <= targets


def public_classes(kind: str) -> set[str]:
    modules = [name for entry in get_provider_info()[kind] for name in entry["python-modules"]]
    return {
        name
        for module in map(importlib.import_module, modules)
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


@pytest.mark.parametrize("kind", ["operators", "sensors"])
def test_readme_and_reference_list_each_class(kind: str) -> None:
    reference = "\n".join(page.read_text() for page in (DOCS / "reference").rglob("*.rst"))
    described = set(re.findall(r"\.\. autoclass:: (\w+)", reference))
    in_readme = set(re.findall(r"`(Webcamconsult\w+(?:Operator|Sensor))`", README))
    assert public_classes(kind) <= described
    if kind == "operators":
        overview = (DOCS / "reference" / "operators" / "index.rst").read_text()
        assert public_classes(kind) <= set(re.findall(r"(?m)^    (Webcamconsult\w+)$", overview))
    assert public_classes(kind) <= in_readme
    assert in_readme <= public_classes("operators") | public_classes("sensors")


def test_errors_guide_lists_each_exception() -> None:
    exceptions = importlib.import_module("airflow_provider_webcamconsult.exceptions")
    expected = {name for name in vars(exceptions) if name.startswith("Webcamconsult")}
    guide = (DOCS / "guides" / "errors.rst").read_text()
    rows = re.findall(r"``(Webcamconsult\w+)``\n      - [^*]*?\n      - (yes|no)\n", guide)
    bases = {"WebcamconsultError", "WebcamconsultRecordError", "WebcamconsultServiceError"}
    assert {name for name, _ in rows} == expected - bases
    for name, is_retried in rows:
        fails_at_once = issubclass(getattr(exceptions, name), exceptions.AirflowFailException)
        assert fails_at_once == (is_retried == "no"), name
