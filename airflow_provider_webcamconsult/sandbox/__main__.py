"""The command line: ``python -m airflow_provider_webcamconsult.sandbox``."""

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
    """Serve until Ctrl-C or SIGTERM."""
    # Blocked before the server's thread inherits the mask: wherever they arrive, they wait for sigwait.
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
    parser = argparse.ArgumentParser(PROGRAM, description="A local Webcamconsult API, to test DAGs with.")
    parser.add_argument("--port", type=int, default=8787, help="default 8787; 0 takes a free one")
    parser.add_argument(
        "--token",
        dest="tokens",
        nargs="+",
        action="extend",
        metavar="TOKEN",
        help="the token of an organisation, for each; default the two of the API document",
    )
    parser.add_argument(
        "--states",
        default="idle",
        help="states through which new appointments go by themselves: idle:5s,started:2m,finished",
    )
    parser.add_argument("--data", metavar="FILE", help="JSON file to keep everything in; default memory")
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
            f"Webcamconsult sandbox on {sandbox.url} (Ctrl-C stops it)",
            *(f"Token: {token}" for token in sandbox.tokens),
            f"export AIRFLOW_CONN_WEBCAMCONSULT_DEFAULT={shlex.quote(json.dumps(connection))}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
