"""What a server may be told beside its models."""

import dataclasses
import math
from pathlib import Path

from ktransformer.errors import InputError
from ktransformer.numbers import to_float, to_integer


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """The limits of a server and of each of its replicas.

    Attributes:
        threads: Batches that a replica runs at the same time, on a thread each.
        batch_tokens: The most tokens of a batch's texts. A token is taken for four bytes of UTF-8.
        waiting_tokens: The most tokens that wait in a replica; a request that finds more is
            answered with 429.
        deadline: Seconds that a request may wait and run; then it is answered with 503.
        request_bytes: The most bytes of a request's body.
        request_texts: The most texts of a request.
        alternatives: The most alternatives of a text.
        api_keys: Keys, one of which every request has to bring; empty for none.
        allow_origins: Origins of web pages that may call the server from a browser (CORS), or `*`.
        log_texts: Whether the log has the texts of requests.
        reload_every: Seconds between two looks for the next number in a model's folder.

    Raises:
        InputError: A value is out of its range.
    """

    threads: int = 1
    batch_tokens: int = 1024
    waiting_tokens: int = 65_536
    deadline: float = 60.0
    request_bytes: int = 1 << 20
    request_texts: int = 1024
    alternatives: int = 16
    api_keys: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    log_texts: bool = False
    reload_every: float = 2.0

    def __post_init__(self) -> None:
        for name in ("threads", "batch_tokens", "waiting_tokens", "request_bytes", "request_texts"):
            to_integer(name, getattr(self, name), least=1)
        to_integer("alternatives", self.alternatives, least=0)
        for name in ("deadline", "reload_every"):
            if not 0 < to_float(name, getattr(self, name)) < math.inf:
                raise InputError(f"{name} must be above 0; got {name}={getattr(self, name)}.")


def read_api_keys(path: str | Path) -> tuple[str, ...]:
    """Reads API keys, one a line; blank lines and those that begin with `#` are none.

    Raises:
        InputError: The file is not UTF-8, or has no key, so that it would let everybody in.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8.") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not keys:
        raise InputError(f"{path} has no API key.")
    return keys
