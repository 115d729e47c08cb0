"""Operators for Webcamconsult."""
