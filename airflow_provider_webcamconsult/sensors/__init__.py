"""Sensors for Webcamconsult."""
