"""The command ``python -m airflow_provider_webcamconsult.sandbox``."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import signal
import sys
from typing import Any

from airflow_provider_webcamconsult.sandbox import Sandbox, SandboxError
from airflow_provider_webcamconsult.sandbox.service import DOCUMENT_TOKENS

PROGRAM = "python -m airflow_provider_webcamconsult.sandbox"


def main() -> int:
    """Run the sandbox until Ctrl-C or SIGTERM."""
    # Block the signals before the server's thread starts and inherits the mask, so that sigwait gets them.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    options = _parser().parse_args()
    options.tokens = options.tokens or DOCUMENT_TOKENS
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("airflow_provider_webcamconsult.sandbox").setLevel(logging.INFO)
    try:
        with Sandbox(**vars(options)) as sandbox:
            print(_banner(sandbox, options.plural_paths), flush=True)
            signal.sigwait(signals)
    except SandboxError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description="Run a sandbox of the Webcamconsult API for testing DAGs."
    )
    parser.add_argument(
        "--port", type=int, default=8787, help="port to listen on; 0 picks a free port (default: 8787)"
    )
    parser.add_argument(
        "--token",
        dest="tokens",
        nargs="+",
        action="extend",
        metavar="TOKEN",
        help="API tokens, one for each organisation (default: the two tokens of the API document)",
    )
    parser.add_argument(
        "--states",
        default="idle",
        help="states that new appointments pass through, each except the last with its duration, "
        "for example idle:5s,started:2m,finished (default: idle)",
    )
    parser.add_argument("--data", metavar="FILE", help="JSON file to store all data in (default: in memory)")
    parser.add_argument(
        "--plural-paths",
        action="store_true",
        help="serve /clients/{id}.json and /appointments/{id}.json instead of the documented singular paths",
    )
    return parser


def _banner(sandbox: Sandbox, plural_paths: bool) -> str:
    connection: dict[str, Any] = {
        "conn_type": "webcamconsult",
        "host": sandbox.url,
        "password": sandbox.token,
    }
    if plural_paths:
        connection["extra"] = {"plural_paths": True}
    return "\n".join(
        [
            f"Webcamconsult sandbox running on {sandbox.url} (press Ctrl-C to stop)",
            *(f"Token: {token}" for token in sandbox.tokens),
            f"export AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT={shlex.quote(json.dumps(connection))}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
