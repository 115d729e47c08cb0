"""An Airflow home for the tests alone, before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Before Airflow is imported: no test may touch the Airflow of who runs it, or depend on its settings, on a
# proxy or on the certificates that the machine trusts.
_FOREIGN = (
    "AIRFLOW__",
    "AIRFLOW_CONN_",
    "AIRFLOW_VAR_",
    "AIRFLOW_CONFIG",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
for _name in [name for name in os.environ if name.startswith(_FOREIGN) or name.lower().endswith("_proxy")]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-of-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
