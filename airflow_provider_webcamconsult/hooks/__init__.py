"""Hooks for Webcamconsult."""
