"""The web application of a replica: its endpoints, errors, metrics and logs."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ktransformer._version import __version__
from ktransformer.errors import InputError
from ktransformer.serving import libretranslate, tensorflow_serving
from ktransformer.serving.batching import DeadlineError, TooBusyError
from ktransformer.serving.http_requests import HttpError, check_key, to_response
from ktransformer.serving.observer import Observer
from ktransformer.serving.server import ModelServer

_log = logging.getLogger("ray.serve")  # Ray writes it, as JSON, beside its own.


def make_app(
    server: ModelServer, read_metrics: Callable[[], Awaitable[str]] | None = None
) -> FastAPI:
    """Makes the application of a server.

    While it runs it looks for newer versions of the models.

    Args:
        server: The server that answers.
        read_metrics: Returns what `/metrics` answers; None for no such endpoint.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reloading = asyncio.create_task(server.keep_reloading())
        yield
        reloading.cancel()
        await server.drain()

    app = FastAPIOffline(  # Its page of the API loads nothing from elsewhere.
        title="ktransformer",
        version=__version__,
        description='Translates texts of any length. Errors are `{"error": SENTENCE}`.',
        lifespan=lifespan,
    )
    app.state.server = server
    app.include_router(libretranslate.router)
    app.include_router(tensorflow_serving.router)
    for kind in (InputError, HttpError, TooBusyError, DeadlineError, Exception):
        app.add_exception_handler(kind, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_wrong_path)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        """Shows the page for people."""
        return resources.files("ktransformer.serving").joinpath("page.html").read_text("utf-8")

    app.add_middleware(_Reporter, observer=server.observer)
    if read_metrics is not None:

        @app.get("/metrics", response_class=PlainTextResponse)
        async def metrics(request: Request) -> str:
            """Returns the metrics of all replicas, as Prometheus reads them."""
            check_key(request, server.options.api_keys)
            return await read_metrics()

    if server.options.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(server.options.allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    return app


class _Reporter:
    """Tells an observer of each request.

    Args:
        app: The application.
        observer: Who is told.
    """

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            # Its template: one for each path that somebody tries would be too many.
            route = getattr(scope.get("route"), "path", "unknown")
            self._observer.add_request(route, status, time.monotonic() - started)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    known = isinstance(error, (InputError, HttpError, TooBusyError, DeadlineError))
    if not known:
        _log.exception("A request to %s failed.", request.url.path, exc_info=error)
    return to_response(error)


async def _answer_wrong_path(request: Request, error: Any) -> JSONResponse:
    """Answers for a part of a path that is no number, where one belongs."""
    first = error.errors()[0]
    return to_response(HttpError(400, f"{first['loc'][-1]}: {first['msg']}."))


async def _answer_http(request: Request, error: Any) -> JSONResponse:
    """Answers for FastAPI's own errors, such as a path that there is not."""
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)
