"""The server as an application of Ray Serve."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from ray import serve

from ktransformer.runtime.threads import set_threads
from ktransformer.serving.application import make_app
from ktransformer.serving.metrics import Metrics, read_metrics
from ktransformer.serving.model import ModelSpec
from ktransformer.serving.options import ServingOptions
from ktransformer.serving.server import ModelServer

_MOST_REQUESTS = 1 << 16  # The limit on waiting tokens comes first, and answers with 429.
_GRACE_SECONDS = 10


@serve.deployment(max_ongoing_requests=_MOST_REQUESTS)
@serve.ingress()
class Translators:
    """A replica: opens and warms up all models before it takes a request.

    Args:
        specs: The models.
        options: The limits.
    """

    def __init__(self, specs: Sequence[ModelSpec], options: ServingOptions) -> None:
        with contextlib.suppress(RuntimeError):  # TensorFlow already runs, with threads of its own.
            set_threads(1, batches=options.threads)
        self.server = ModelServer(specs, options, Metrics())

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self.server, read_metrics)


def build_application(
    specs: Sequence[ModelSpec],
    options: ServingOptions | None = None,
    *,
    replicas: int = 1,
    most_replicas: int | None = None,
    idle_seconds: float = 600.0,
    **deployment: Any,
) -> serve.Application:
    """Makes an application that `ray.serve.run` starts, or that others bind into their own.

    Args:
        specs: The models, which each replica opens; their paths must exist on its node.
        options: The limits; None for the defaults.
        replicas: Replicas, of `options.threads` cores each.
        most_replicas: Replicas to which Ray adds and removes them by the load; None for no change.
        idle_seconds: Seconds of a lower load after which Ray removes replicas.
        **deployment: Further options of `ray.serve.deployment`.

    Example:
        ```python
        serve.run(build_application([ModelSpec(Path("model.tflite"), "en", "de")]))
        ```
    """
    options = options or ServingOptions()
    scaling: dict[str, Any] = {"num_replicas": replicas}
    if most_replicas is not None:
        scaling = {
            "autoscaling_config": {
                "min_replicas": replicas,
                "max_replicas": most_replicas,
                "target_ongoing_requests": 16 * options.threads,
                "downscale_delay_s": idle_seconds,
            }
        }
    others = {
        "ray_actor_options": {"num_cpus": options.threads},
        "graceful_shutdown_timeout_s": options.deadline + _GRACE_SECONDS,
    }
    absolute = [dataclasses.replace(spec, path=spec.path.resolve()) for spec in specs]
    translators: Any = Translators  # Ray's decorators hide its type.
    return translators.options(**{**scaling, **others, **deployment}).bind(absolute, options)
