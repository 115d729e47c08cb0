"""Give the tests their own Airflow home before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Tests must not touch the user's own Airflow, nor depend on its settings, on a proxy or on the machine's
# trusted certificates. Airflow reads all of these when it is imported.
_INHERITED = (
    "AIRFLOW__",
    "AIRFLOW_CONN_",
    "AIRFLOW_VAR_",
    "AIRFLOW_CONFIG",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
for _name in [name for name in os.environ if name.startswith(_INHERITED) or name.lower().endswith("_proxy")]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-for-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
