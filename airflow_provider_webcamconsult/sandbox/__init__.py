"""A local Webcamconsult API, to test DAGs with: in pytest as :class:`Sandbox`, else as a command.

It is written from the API document alone and imports nothing of the rest of the package, so that a mistake
in the provider does not meet its own copy here.
"""

from __future__ import annotations

from airflow_provider_webcamconsult.sandbox.server import RecordedRequest, Sandbox
from airflow_provider_webcamconsult.sandbox.service import SandboxError

__all__ = ["RecordedRequest", "Sandbox", "SandboxError"]
