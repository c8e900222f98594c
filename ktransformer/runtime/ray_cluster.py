"""Joins a Ray cluster, or says why not."""

import socket
from typing import Any

from ktransformer.errors import InputError, first_line

_ANSWER_SECONDS = 10


def join_cluster(address: str, **options: Any) -> None:
    """Joins the Ray cluster at an address, or starts one.

    Args:
        address: `HOST:PORT` of one, `auto` for the one that runs on this machine, or `local` to
            start one.
        options: Further ones of `ray.init`.

    Raises:
        ImportError: Ray is not installed.
        InputError: There is no such cluster, or it cannot be used.
    """
    import ray

    _check_that_something_listens(address)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises plain ones where a node does not start in time.
        what = "start Ray" if address == "local" else f"join Ray at {address}"
        raise InputError(f"Cannot {what}: {first_line(error)}") from error


def _check_that_something_listens(address: str) -> None:
    """Refuses a `HOST:PORT` where nothing listens, which Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():  # Ray says what it thinks of the others.
        return
    try:
        answer = socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS)
        answer.close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"Cannot join Ray at {address}: {first_line(error)}") from error
