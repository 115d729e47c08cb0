"""How Sphinx builds these pages: ``make docs``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from airflow_provider_webcamconsult import __version__
from airflow_provider_webcamconsult.get_provider_info import CONNECTION_FIELDS

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

project = "airflow-provider-webcamconsult"
release = __version__
copyright = "the authors, under Apache-2.0"

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Webcamconsult for Airflow {release}"

# A reference to what is not there is an error; what other projects document is not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!airflow_provider_webcamconsult\.).*|.*\.(AttributesT|RecordT)")]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"


class ConnectionFields(SphinxDirective):
    """Lists the extras of the connection, from what Airflow's form is made of."""

    def run(self) -> list[nodes.Node]:
        """Write a description list."""
        lines = []
        for name, described in CONNECTION_FIELDS.items():
            schema = described["schema"]
            limits = f", from {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
            lines += [
                f"``{name}``",
                f"    *{described['label']}*. {described['description']}",
                f"    By default ``{json.dumps(schema['default'])}``{limits}.",
                "",
            ]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("connection-fields", ConnectionFields)
