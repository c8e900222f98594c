"""A server of translators on Ray Serve; it needs the extra `ray`."""

from ktransformer.lazy import lazy_names
from ktransformer.serving.options import ServingOptions as ServingOptions
from ktransformer.serving.options import read_api_keys as read_api_keys

_OWNERS = {
    "ModelServer": "server",
    "ModelSpec": "model",
    "Version": "versions",
    "build_application": "deployment",
    "find_versions": "versions",
    "make_app": "application",
    "serve_models": "running",
}

__getattr__ = lazy_names(__name__, _OWNERS)
