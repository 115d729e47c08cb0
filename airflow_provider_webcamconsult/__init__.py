"""Apache Airflow provider for Webcamconsult, a service for video consults in health care."""

from __future__ import annotations

__version__ = "0.1.0"
