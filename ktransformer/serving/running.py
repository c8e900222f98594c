"""Starts a server and ends it; the command's work."""

import contextlib
import csv
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ktransformer.errors import InputError, first_line
from ktransformer.runtime.noise import quiet_stderr
from ktransformer.runtime.ray_cluster import join_cluster
from ktransformer.serving.model import ModelSpec
from ktransformer.serving.options import ServingOptions
from ktransformer.serving.server import check_specs

_PORTS = (  # Of the proxy itself: fixed ones would keep a second server from starting.
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
)
_APPLICATION = "ktransformer"
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\n\r\n"
    b'{"error":"No replica answers; try again."}'
)
# HAProxy repeats only a request whose body it had read whole when it began to send it. Ray has no
# setting for that, but writes this one as it is: a second line of the configuration.
_RETRY_ON = "conn-failure empty-response\n    option http-buffer-request"
_RETRIED_BYTES = 1 << 17  # Of a request with its headers; a larger one is not repeated.
_PROXY_SECONDS = 60
_LOOK_SECONDS = 0.5
_DRAIN_SECONDS = 2  # A replica that ends takes requests so long after the proxy was told.


def serve_models(
    specs: Sequence[ModelSpec],
    options: ServingOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: int = 1,
    most_replicas: int | None = None,
    idle_seconds: float = 600.0,
    address: str | None = None,
    on_ready: Callable[[str], object] = print,
) -> None:
    """Serves models until the process gets SIGTERM or SIGINT; then answers what it has taken.

    Args:
        specs: The models.
        options: The limits.
        host: The address that it listens on; `0.0.0.0` for all of the machine's. Where Ray Serve
            runs on the cluster already, it listens where that does.
        port: The port, likewise.
        replicas: Processes that translate, each with all models.
        most_replicas: As many as there may be under load; None for `replicas`.
        idle_seconds: Seconds of a lower load after which there are fewer again.
        address: A Ray cluster to run on, such as `auto`; None for one of this machine, which ends
            with the server.
        on_ready: Called with the URL where it listens when it takes requests.

    Raises:
        InputError: The port is taken, a model cannot be opened, or the cluster cannot be reached.
    """
    check_specs(specs)
    if most_replicas is not None and most_replicas < replicas:
        raise InputError(f"There are to be {replicas} replicas, and {most_replicas} at most.")
    if address is None:
        _check_port(host, port)
    cores = max(replicas, most_replicas or 0) * options.threads
    with _cluster(address, cores) as (serve, folder):
        from ray.serve.context import _get_global_client

        from ktransformer.serving.deployment import build_application

        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):  # Ray has set handlers of its own.
            signal.signal(number, lambda *_: stop.set())
        serve.start(
            http_options={"host": host, "port": port},
            logging_config={"encoding": "JSON", "log_level": "INFO"},
        )
        client: Any = _get_global_client()
        listens = client.http_config  # Where Serve ran already, not what it was asked for.
        if address is None:
            _wait_for_proxy(folder)
        _answer_with_retry(folder)
        application = build_application(
            specs,
            options,
            replicas=replicas,
            most_replicas=most_replicas,
            idle_seconds=idle_seconds,
        )
        try:
            serve.run(application, name=_APPLICATION, route_prefix="/")
        except RuntimeError as error:
            raise InputError(f"The server did not start: {first_line(error)}") from error
        shown = f"[{listens.host}]" if ":" in str(listens.host) else listens.host
        on_ready(f"http://{shown}:{listens.port}")
        while not stop.wait(_LOOK_SECONDS):
            _answer_with_retry(folder)  # A new proxy has written Ray's own answer.
        _drain(folder, options.deadline)


@contextlib.contextmanager
def _cluster(address: str | None, cores: int) -> Iterator[tuple[Any, Path]]:
    """Joins a Ray cluster, or starts one of so many cores; yields `ray.serve` and a folder.

    The folder has the files of the cluster's proxy, if it was started.

    What the server has taken is answered before this ends.

    Raises:
        InputError: There is no such cluster, or it cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="ktransformer-") as folder:
        if address is None:
            os.environ.update(_proxy_settings(Path(folder)))
            if "ray.serve" in sys.modules:
                raise RuntimeError(
                    "serve_models sets Ray's proxy up, before ray.serve is imported."
                )
        # Imported here, since Ray reads the proxy's settings when it is imported.
        import ray
        from ray import serve

        for name in ("ray", "ray.serve"):
            logging.getLogger(name).setLevel(logging.ERROR)
        join_cluster(
            address or "local",
            num_cpus=None if address else cores,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            yield serve, Path(folder)
        finally:
            with quiet_stderr():
                if address is None:
                    serve.shutdown()
                else:  # The cluster's other applications go on.
                    serve.delete(_APPLICATION)
                ray.shutdown()


def _wait_for_proxy(folder: Path) -> None:
    end = time.monotonic() + _PROXY_SECONDS
    while not any(folder.glob("*/500.http")):
        if time.monotonic() > end:
            raise InputError(f"Ray's proxy did not start within {_PROXY_SECONDS} seconds.")
        time.sleep(0.05)


def _answer_with_retry(folder: Path) -> None:
    """Makes the proxy answer with 503 where no replica does; Ray would have it answer with 500.

    It reads the answer anew whenever a replica comes or goes.
    """
    for path in folder.glob("*/500.http"):
        if path.read_bytes() != _UNAVAILABLE:
            path.write_bytes(_UNAVAILABLE)


def _drain(folder: Path, seconds: float) -> None:
    """Makes the proxy take no more connections, and waits until what it has taken is answered.

    Args:
        folder: That of the proxy.
        seconds: The longest to wait.
    """
    end = time.monotonic() + seconds
    for path in folder.glob("*/admin.sock"):
        with contextlib.suppress(OSError):  # The socket of a proxy that was killed.
            _tell_proxy(path, "shutdown frontend http_frontend")
            while _requests_in(path) and time.monotonic() < end:
                time.sleep(0.05)


def _requests_in(path: Path) -> int:
    """Returns the number of requests that wait for replicas."""
    rows = csv.DictReader(_tell_proxy(path, "show stat").removeprefix("# ").splitlines())
    return sum(int(row["scur"] or 0) for row in rows if row["svname"] == "BACKEND")


def _tell_proxy(path: Path, command: str) -> str:
    """Sends a command to HAProxy's own socket; returns its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PROXY_SECONDS)
        connection.connect(str(path))
        connection.sendall(f"{command}\n".encode())
        return connection.makefile(encoding="utf-8").read()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The server cannot listen on {host}:{port}: {reason}.") from error


def _free_ports(count: int) -> list[int]:
    """Returns so many ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


def _proxy_settings(folder: Path) -> dict[str, str]:
    """Returns the environment of Ray's faster proxy, HAProxy, whose files go to a folder.

    A request whose replica died before it answered goes to another one: a translation changes
    nothing, so that to run it twice is safe.
    """
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_RETRY_ON": _RETRY_ON,
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(_RETRIED_BYTES),
        "RAY_SERVE_HAPROXY_RETRIES": "5",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "5",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_DRAIN_SECONDS),
        **dict(zip(_PORTS, map(str, _free_ports(len(_PORTS))), strict=True)),
    }
