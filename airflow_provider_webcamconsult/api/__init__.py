"""The Webcamconsult API without I/O and without Airflow: what is sent, and what an answer means."""
