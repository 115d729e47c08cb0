"""Metadata that Airflow reads when it discovers the provider. Imports nothing else of the package."""

from __future__ import annotations

from typing import Any

#: Extras of the connection, in the format of Airflow 3's form. Also the source of Airflow 2's form and of the
#: default values.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "timezone": {
        "label": "Time zone",
        "description": "Time zone for dates without a UTC offset, such as Europe/Amsterdam.",
        "schema": {"type": ["string", "null"], "default": "Europe/Amsterdam"},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "Maximum time to connect, and to wait for data from the service.",
        "schema": {"type": ["number", "null"], "default": 30, "minimum": 0.1, "maximum": 3600},
    },
    "retries": {
        "label": "Retries",
        "description": "Maximum number of retries of a request that is safe to repeat.",
        "schema": {"type": ["integer", "null"], "default": 3, "minimum": 0, "maximum": 100},
    },
    "auth_as_parameter": {
        "label": "Send the API token as a parameter",
        "description": "Uses the parameter authentication_token instead of the Authorization header.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "plural_paths": {
        "label": "Plural paths",
        "description": "Uses /clients/ID.json, /appointments/ID.json. "
        "Tick this if single records are reported as not found.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "insecure": {
        "label": "Skip TLS verification",
        "description": "Accepts any server certificate. Use only for tests.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}

#: The Port field stays visible: the Test button of Airflow 3.3.2 fails for a connection without a port.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "schema"],
    # Airflow has no help texts for the standard fields, so the labels contain them.
    "relabeling": {
        "host": "Host (blank for the live service)",
        "port": "Port (443 for https)",
        "password": "API token",
    },
    "placeholders": {
        "host": "https://eapi.webcamconsult.com",
        "port": "443",
        "password": "the organisation's API token",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata."""
    integration = "Webcamconsult"
    package = "airflow_provider_webcamconsult"
    return {
        "package-name": "airflow-provider-webcamconsult",
        "name": "Webcamconsult",
        "description": "`Webcamconsult <https://www.webcamconsult.com/>`__ for video consults.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://www.webcamconsult.com/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    f"{package}.operators.{module}"
                    for module in ("users", "clients", "appointments", "changes")
                ],
            }
        ],
        "sensors": [
            {"integration-name": integration, "python-modules": [f"{package}.sensors.appointments"]},
        ],
        "hooks": [
            {"integration-name": integration, "python-modules": [f"{package}.hooks.webcamconsult"]},
        ],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.triggers.{module}" for module in ("appointments", "changes")],
            },
        ],
        "connection-types": [
            {
                "connection-type": "webcamconsult",
                "hook-class-name": f"{package}.hooks.webcamconsult.WebcamconsultHook",
                "hook-name": "Webcamconsult",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
    }
