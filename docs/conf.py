"""How Sphinx builds these pages: ``make docs``. No network is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "airflow-provider-webcamconsult"
release = __version__
copyright = "the authors, under Apache-2.0"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]
html_theme = "furo"
# Without underlined names.
pygments_dark_style = "github-dark"
html_title = f"Webcamconsult for Airflow {release}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["custom.css"]
add_module_names = False
# No empty line at the end of an excerpt.
highlight_options = {"default": {"stripall": True}, "python": {"stripall": True}}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

# A reference to what these pages describe must resolve. What other projects document, and this package's
# internals, are shown without a link.
_DESCRIBED = r"(hooks|operators\.\w+|sensors|triggers|exceptions|sandbox|api\.resources)\."
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", rf"(?!airflow_provider_webcamconsult\.{_DESCRIBED}).*|.*\.(AttributesT|RecordT|base\.\w+)")
]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"


def _link_pages(text: str) -> str:
    text = re.sub(r"`([^`<]+)\s<([\w./-]+)\.rst>`__", r":doc:`\1 <\2>`", text)
    text = re.sub(r"`([^`<]+)\s<([\w./-]+\.md)>`__", r":download:`\1 <\2>`", text)
    return re.sub(r"`([^`<]+)\s<[\w./-]+\.py>`__", r"``\1``", text)


def _tables_of_contents(text: str) -> str:
    """Return what the navigation shows: the pages in each list of an index, under the list's title."""
    trees = []
    for title, items in re.findall(r"(?m)^(?:(\w+)\n-+\n\n)?((?:- `[^`<]+ <[\w./-]+\.rst>`__\n)+)", text):
        pages = re.findall(r"<([\w./-]+)\.rst>", items)
        caption = [f"    :caption: {title}"] if title else []
        trees += ["", ".. toctree::", "    :hidden:", *caption, "", *(f"    {page}" for page in pages)]
    return "\n".join(trees)


def adapt_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Make a built page from one that can be read where the code is hosted, without Sphinx."""
    if page == "resources/changelog":
        source[0] = (Path(app.srcdir).parent / "CHANGELOG.rst").read_text()
    if page.rpartition("/")[2] == "index":
        source[0] += _tables_of_contents(source[0])
    # A link to page.rst leads to the built page.
    source[0] = _link_pages(source[0])


def hide_signature(app: Sphinx, what: str, *rest: Any) -> tuple[str, None] | None:
    """Leave out how an exception is made: a DAG catches it."""
    signature = rest[3]
    return ("", None) if what == "exception" and signature else None


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("source-read", adapt_page)
    app.connect("autodoc-process-signature", hide_signature)
