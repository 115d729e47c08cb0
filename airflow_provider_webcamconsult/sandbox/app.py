"""The HTTP layer of the sandbox: routes, authentication, error pages, ETags and the request log."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from airflow_provider_webcamconsult.sandbox.service import (
    APPOINTMENTS,
    RESOURCES,
    ApiError,
    Resource,
    Service,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("airflow_provider_webcamconsult.sandbox")

#: Levels of nested objects and lists in a request body that the JSON parser of Rails accepts.
MAX_JSON_DEPTH = 100

Action = Callable[[Resource, str, str, Mapping[str, Any]], Any]

_AUTHORIZATION = re.compile(r'Token\s+token=("?)([^\s",]+)\1')
# Path segments that the log may show. Any other segment could be a misplaced token or personal data.
_LOGGABLE = re.compile(
    r"|sandbox|state|(users|client|clients|appointment|appointments|[0-9a-f]{24})(\.json)?", re.ASCII
)


def build_app(service: Service, *, plural_paths: bool, note: Callable[[str, str, int], None]) -> ASGIApp:
    """Build the ASGI application.

    :param service: the API and its data.
    :param plural_paths: serve ``/clients/{id}.json`` instead of the documented ``/client/{id}.json``.
    :param note: called with the method, path and status code of each request, before its response is sent.
    :return: the application.
    """
    actions: dict[tuple[str, bool], Action] = {
        ("GET", False): service.list_all,
        ("POST", False): service.create,
        ("GET", True): service.view,
        ("PUT", True): service.update,
        ("DELETE", True): service.delete,
    }
    routes = [
        Route(
            f"/{resource.name if plural_paths else resource.detail}/{{id}}.json"
            if is_detail
            else f"/{resource.name}.json",
            _endpoint(service, resource, action),
            methods=[method],
        )
        for resource in RESOURCES.values()
        for (method, is_detail), action in actions.items()
    ]
    control = _endpoint(service, APPOINTMENTS, service.set_state)
    routes.append(Route("/sandbox/appointments/{id}/state", control, methods=["PUT"]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route})
    app.router.redirect_slashes = False

    async def log_requests(scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]

        async def log_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                segments = (part if _LOGGABLE.fullmatch(part) else "***" for part in path.split("/"))
                logger.info("%s %s %s", method, "/".join(segments), status)
                note(method, path, status)
            await send(message)

        await app({**scope, "path": re.sub("/{2,}", "/", path)}, receive, log_and_send)

    return log_requests


def _endpoint(
    service: Service, resource: Resource, action: Action
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        try:
            parameters = _parameters(request, body)
        except (ValueError, RecursionError):
            return HTMLResponse("", 400)
        token = _token(request, parameters)
        if token not in service.tokens:
            return PlainTextResponse(
                "HTTP Token: Access denied.", 401, {"WWW-Authenticate": 'Token realm="Application"'}
            )
        try:
            result = action(resource, token, request.path_params.get("id", ""), parameters)
        except ApiError as error:
            if error.errors is not None:
                return _json({"errors": error.errors}, error.status)
            return _error_page(request, error.status, always_json=error.status == 404)
        except Exception as error:
            # The exception's message is left out because it may quote the request.
            trace = "".join(traceback.format_tb(error.__traceback__))
            logger.error("Unexpected error in the sandbox: %s\n%s", type(error).__name__, trace)
            return _error_page(request, 500)
        response = _json(result)
        if request.method in ("GET", "HEAD"):
            etag = f'W/"{hashlib.sha256(response.body).hexdigest()[:32]}"'
            if request.headers.get("if-none-match") == etag:
                response = Response(status_code=304)
            response.headers["ETag"] = etag
            response.headers["Cache-Control"] = "max-age=0, private, must-revalidate"
        return response

    return endpoint


def _parameters(request: Request, body: bytes) -> dict[str, Any]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode()))
    if content_type != "application/json" or not body.strip():
        return {}
    # Decode first: Python would also detect UTF-16 and UTF-32, and skip a byte order mark.
    parameters = json.loads(body.decode())
    # Python accepts NaN and lone surrogates, which are not valid JSON and which the service rejects.
    json.dumps(parameters, allow_nan=False, ensure_ascii=False).encode()
    if _depth(parameters) > MAX_JSON_DEPTH:
        raise ValueError("The JSON is nested too deeply.")
    return parameters if isinstance(parameters, dict) else {}


def _depth(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(_depth, items), default=0)


def _token(request: Request, parameters: Mapping[str, Any]) -> Any:
    match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", "").strip())
    if match:
        return match[2]
    return request.query_params.get("authentication_token") or parameters.get("authentication_token")


def _json(value: Any, status: int = 200) -> Response:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, media_type="application/json; charset=utf-8")


def _error_page(request: Request, status: int, *, always_json: bool = False) -> Response:
    phrase = HTTPStatus(status).phrase
    if always_json or "application/json" in request.headers.get("accept", ""):
        return _json({"status": status, "error": phrase}, status)
    return HTMLResponse(f"<!DOCTYPE html>\n<title>{status} {phrase}</title>\n<h1>{phrase}</h1>\n", status)


async def _no_such_route(request: Request, _error: Exception) -> Response:
    # Rails does not return 405: a method that a path does not support is a missing route.
    return _error_page(request, 404)
