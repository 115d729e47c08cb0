"""The Webcamconsult API, without I/O and without Airflow: build requests and interpret responses."""
