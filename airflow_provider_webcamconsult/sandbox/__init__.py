"""A sandbox of the Webcamconsult API for testing DAGs: :class:`Sandbox` in pytest, or a command.

It implements the API document independently and imports nothing from the rest of the package, so that it
does not share the provider's bugs.
"""

from __future__ import annotations

from airflow_provider_webcamconsult.sandbox.data_file import SandboxError
from airflow_provider_webcamconsult.sandbox.server import RecordedRequest, Sandbox

__all__ = ["RecordedRequest", "Sandbox", "SandboxError"]
