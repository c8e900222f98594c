"""A server of translators on Ray Serve; it needs the extra `ray`."""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names
from ktransformer.serving.options import ServingOptions as ServingOptions
from ktransformer.serving.options import read_api_keys as read_api_keys

if TYPE_CHECKING:
    from ktransformer.serving.application import make_app as make_app
    from ktransformer.serving.deployment import build_application as build_application
    from ktransformer.serving.model import ModelSpec as ModelSpec
    from ktransformer.serving.running import serve_models as serve_models
    from ktransformer.serving.server import ModelServer as ModelServer
    from ktransformer.serving.versions import Version as Version
    from ktransformer.serving.versions import find_versions as find_versions

_OWNERS = {
    "ModelServer": "server",
    "ModelSpec": "model",
    "Version": "versions",
    "build_application": "deployment",
    "find_versions": "versions",
    "make_app": "application",
    "serve_models": "running",
}

if not TYPE_CHECKING:  # A type checker would take it to have any name.
    __getattr__, __dir__ = lazy_names(__name__, _OWNERS)
