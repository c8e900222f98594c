"""The application in a thread of the test's process, without Ray, and what asks it."""

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

import uvicorn

from ktransformer.serving import ModelServer, make_app


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def running(server: ModelServer, **options) -> Iterator[str]:
    """Yields the address of the application."""
    config = uvicorn.Config(make_app(server, **options), port=0, log_level="critical")
    application = uvicorn.Server(config)
    thread = threading.Thread(target=application.run)
    thread.start()
    while not application.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = application.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        application.should_exit = True
        thread.join(30)


def ask(address: str, content: Any = None, **headers: str) -> Answer:
    """Sends JSON, or bytes as they are, and returns whatever comes back."""
    if content is not None and not isinstance(content, bytes):
        content = json.dumps(content).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        address, content, {"Content-Type": "application/json", **names}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())
