"""Apache Airflow provider for Webcamconsult, a video consult service for health care."""

from __future__ import annotations

__version__ = "0.1.0"
