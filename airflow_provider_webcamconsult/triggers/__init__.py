"""Triggers for Webcamconsult."""
