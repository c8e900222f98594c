"""`ktransformer serve`: a server of translators, on Ray."""

import argparse
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ktransformer.cli.options import A_PROGRAM, count, nonnegative, positive
from ktransformer.errors import InputError
from ktransformer.serving.options import ServingOptions, read_api_keys

if TYPE_CHECKING:
    from ktransformer.serving import ModelSpec

HELP = "serve translators over HTTP"
EXAMPLE = """\
ktransformer serve en-de=en-de.tflite --port 8000
curl localhost:8000/translate -d q='A dog runs.' -d source=en -d target=de"""
_IDLE_SECONDS = 600.0
_LABELLED = re.compile(r"(\w+)-(\w+)(?::([^=/]+))?=(.+)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "models",
        nargs="+",
        metavar="[SOURCE-TARGET[:TAG]=]EXPORT",
        help=".tflite (the fastest), SavedModel or run, or a folder of numbered ones, of which the "
        f"highest is served; {A_PROGRAM}",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=positive, default=8000, metavar="N", help="port")
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster to run on, such as auto")
    parser.add_argument(
        "--replicas", type=positive, default=1, metavar="N", help="processes with all models each"
    )
    parser.add_argument(
        "--max-replicas", type=positive, metavar="N", help="as many as there may be under load"
    )
    parser.add_argument(
        "--idle-seconds",
        type=nonnegative,
        metavar="S",
        help="with --max-replicas: seconds of low load before some end (default: "
        f"{_IDLE_SECONDS:g})",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="CPU threads of a replica (default: all cores)",
    )
    limits, usual = parser.add_argument_group("limits"), ServingOptions()
    limits.add_argument(
        "--batch-tokens",
        type=positive,
        default=usual.batch_tokens,
        metavar="N",
        help="tokens of a batch",
    )
    limits.add_argument(
        "--waiting-tokens",
        type=positive,
        default=usual.waiting_tokens,
        metavar="N",
        help="tokens that may wait; a request beyond is answered with 429",
    )
    limits.add_argument(
        "--deadline",
        type=float,
        default=usual.deadline,
        metavar="S",
        help="seconds of a request, then 503",
    )
    limits.add_argument(
        "--request-bytes",
        type=positive,
        default=usual.request_bytes,
        metavar="N",
        help="bytes of a request",
    )
    limits.add_argument(
        "--request-texts",
        type=positive,
        default=usual.request_texts,
        metavar="N",
        help="texts of a request",
    )
    limits.add_argument(
        "--alternatives",
        type=count,
        default=usual.alternatives,
        metavar="N",
        help="alternatives of a text",
    )
    parser.add_argument(
        "--api-keys", metavar="FILE", help="API keys, one a line; a request needs one of them"
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web pages of it may call the server; once for each, or *",
    )
    parser.add_argument(
        "--log-texts", action="store_true", help="write the texts of users into the log"
    )


def run(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or Ctrl-C."""
    if importlib.util.find_spec("ray") is None:
        raise InputError('serve needs Ray: pip install "ktransformer[ray]".')
    if options.idle_seconds is not None and options.max_replicas is None:
        raise InputError("--idle-seconds goes with --max-replicas.")
    from ktransformer.engines import available_cores
    from ktransformer.serving import serve_models

    limits = ServingOptions(
        threads=options.threads or (1 if options.ray else available_cores()),
        batch_tokens=options.batch_tokens,
        waiting_tokens=options.waiting_tokens,
        deadline=options.deadline,
        request_bytes=options.request_bytes,
        request_texts=options.request_texts,
        alternatives=options.alternatives,
        api_keys=() if options.api_keys is None else read_api_keys(options.api_keys),
        allow_origins=tuple(options.allow_origin),
        log_texts=options.log_texts,
    )
    serve_models(
        [_parse_model(each) for each in options.models],
        limits,
        host=options.host,
        port=options.port,
        replicas=options.replicas,
        most_replicas=options.max_replicas,
        idle_seconds=_IDLE_SECONDS if options.idle_seconds is None else options.idle_seconds,
        address=options.ray,
        on_ready=lambda url: print(f"Serving on {url}", flush=True),
    )


def _parse_model(word: str) -> "ModelSpec":
    """Opens a model once, so that a wrong one is told before anything starts.

    Raises:
        InputError: It is no translator, or its languages cannot be told.
    """
    from ktransformer.engines import load_engine
    from ktransformer.serving import ModelSpec, find_versions

    labelled = _LABELLED.fullmatch(word)
    source, target, tag, path = labelled.groups() if labelled else ("", "", None, word)
    version = find_versions(Path(path))[0]
    description = load_engine(version.path, tag=tag).description
    source, target = source or description.source_label, target or description.target_label
    if not (source and target):
        raise InputError(
            f"The languages of {path} are not known: write SOURCE-TARGET={path}, such as "
            f"en-de={path}."
        )
    return ModelSpec(Path(path), source, target, tag)
