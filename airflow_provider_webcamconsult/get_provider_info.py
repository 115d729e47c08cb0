"""What Airflow reads of this provider at discovery: plain data, nothing is imported."""

from __future__ import annotations

from typing import Any

#: The connection's extras as Airflow 3's form wants them; Airflow 2's form and the defaults come from here.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "timezone": {
        "label": "Time zone",
        "description": "IANA name of the time zone of dates without offset.",
        "schema": {"type": ["string", "null"], "default": "Europe/Amsterdam"},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long to wait for a connection, and then for an answer.",
        "schema": {"type": ["number", "null"], "default": 30, "minimum": 0.1, "maximum": 3600},
    },
    "retries": {
        "label": "Retries",
        "description": "How often a request that is safe to repeat is tried again.",
        "schema": {"type": ["integer", "null"], "default": 3, "minimum": 0, "maximum": 100},
    },
    "auth_as_parameter": {
        "label": "Send the API token as a parameter",
        "description": "Off: it goes in the header Authorization. On: as the parameter authentication_token.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "plural_paths": {
        "label": "Plural paths",
        "description": "Off: /client/ID.json, as documented. On: /clients/ID.json. Appointments alike.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "insecure": {
        "label": "Do not verify TLS",
        "description": "On: the server's certificate is not looked at. For tests only.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}

#: Port stays visible: the Test button of Airflow 3.3.2 fails for a connection without one.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "schema"],
    # There is no other place for a word of help with these fields.
    "relabeling": {
        "host": "Host (blank: the live service)",
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
    """Describe the provider to Airflow."""
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
                    f"{package}.operators.{module}" for module in ("users", "clients", "appointments")
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
            {"integration-name": integration, "python-modules": [f"{package}.triggers.appointments"]},
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
