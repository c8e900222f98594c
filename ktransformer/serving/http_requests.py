"""Reads requests, whatever they hold, and answers with errors in one sentence."""

import hmac
import json
import urllib.parse
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from ktransformer.errors import InputError, brief, printable
from ktransformer.serving.batching import DeadlineError, TooBusyError

_HALF_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # JSON can hold them.


class HttpError(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        sentence: What is wrong.
        retry_after: Seconds after which to try again; None for never.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after


def to_response(error: Exception) -> JSONResponse:
    """Returns the answer for an error: `{"error": SENTENCE}`, which names no path.

    Half surrogates and control characters of what it quotes are escaped.
    """
    if isinstance(error, TooBusyError):
        error = HttpError(429, "Too many texts are waiting; try again.", retry_after=1)
    elif isinstance(error, DeadlineError):
        error = HttpError(503, "The translation took too long; try again.", retry_after=1)
    elif isinstance(error, InputError):
        error = HttpError(400, str(error))
    elif not isinstance(error, HttpError):
        error = HttpError(500, "The translation failed.")
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse({"error": printable(error)}, error.status, headers)


async def read_body(request: Request, most: int) -> bytes:
    """Reads a body of at most so many bytes; never holds more of one.

    Raises:
        HttpError: It has more.
    """
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise HttpError(413, f"A request may have {most} bytes; this one has more.")
    return bytes(content)


async def read_fields(request: Request, most: int) -> dict[str, Any]:
    """Reads the fields of a JSON object or of a form.

    Raises:
        HttpError: It is too large, or neither.
    """
    content = await read_body(request, most)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        try:
            form = urllib.parse.parse_qs(content.decode(), keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise HttpError(400, "The form is not UTF-8.") from error
        return {name: values[0] if len(values) == 1 else values for name, values in form.items()}
    return parse_json_object(content)


def parse_json_object(content: bytes) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        HttpError: It is none.
    """
    try:
        fields = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise HttpError(400, "The request is not UTF-8.") from error
    except ValueError as error:
        raise HttpError(400, "The request is not JSON.") from error
    except RecursionError as error:
        raise HttpError(400, "The request's JSON is nested too deeply.") from error
    if not isinstance(fields, dict):
        raise HttpError(400, "The request's JSON must be an object.")
    return fields


def to_text(name: str, value: object) -> str:
    """Returns a text of a request; half surrogates, which are no characters, become U+FFFD.

    Raises:
        HttpError: It is no string.
    """
    if not isinstance(value, str):
        raise HttpError(400, f"{name} must be a string; got {brief(value)}.")
    return value.translate(_HALF_SURROGATES)


def check_count(texts: int, most: int) -> None:
    """Checks the number of a request's texts.

    Raises:
        HttpError: There are too many.
    """
    if texts > most:
        raise HttpError(413, f"A request may have {most} texts; this one has {texts}.")


def check_key(request: Request, keys: tuple[str, ...], given: object = None) -> None:
    """Checks the API key of a request: in `Authorization`, `X-API-Key`, or a field of its own.

    Raises:
        HttpError: Keys are asked for, and it brings none of them.
    """
    if not keys:
        return
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    brought = (given, request.headers.get("x-api-key"), bearer)
    if not any(is_key(each, keys) for each in brought if isinstance(each, str)):
        raise HttpError(403, "The request needs an API key of this server.")


def is_key(given: str, keys: tuple[str, ...]) -> bool:
    """Tells whether a text is one of the keys; how long this takes tells nothing of them."""
    content = given.encode(errors="replace")
    same = [hmac.compare_digest(content, key.encode()) for key in keys]  # All: none ends it.
    return any(same)
