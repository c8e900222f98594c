"""All models of a server, found by their languages or their names."""

import asyncio
import logging
from collections.abc import Sequence

from ktransformer.errors import InputError
from ktransformer.serving.model import ModelSpec, ServedModel
from ktransformer.serving.observer import Observer
from ktransformer.serving.options import ServingOptions

_log = logging.getLogger("ray.serve")


class ModelServer:
    """The models that a replica serves.

    Attributes:
        options: The limits.
        observer: Who is told of requests, texts, batches and versions.
        models: The models, by name.

    Args:
        specs: The models, each opened and warmed up before this returns.
        options: The limits.
        observer: Told of requests, texts, batches and versions; None for nobody.

    Raises:
        InputError: Two models have the same languages, or one cannot be opened.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        options: ServingOptions,
        observer: Observer | None = None,
    ) -> None:
        self.options = options
        self.observer = observer or Observer()
        self.models: dict[str, ServedModel] = {}
        check_specs(specs)
        for spec in specs:
            self.models[spec.name] = ServedModel(spec, options, self.observer)

    def find(self, source: str, target: str) -> ServedModel:
        """Returns the model of a pair of languages.

        Args:
            source: The code of the source language; `auto` where only one goes with the target.
            target: The code of the target language.

        Raises:
            InputError: There is none, or `auto` may mean several.
        """
        found = [
            model
            for model in self.models.values()
            if model.spec.target == target and source in ("auto", model.spec.source)
        ]
        pairs = ", ".join(f"{m.spec.source} to {m.spec.target}" for m in self.models.values())
        if not found:
            raise InputError(f"{source} to {target} is not served, only {pairs}.")
        if len(found) > 1:
            raise InputError(f"The source language cannot be found out here: give one of {pairs}.")
        return found[0]

    async def reload(self) -> None:
        """Serves the newest version of each model.

        One that fails is logged: the version that is open, and the other models, are served on.
        """
        for model in self.models.values():
            try:
                await model.reload()
            except Exception:  # Of whatever kind.
                _log.exception("Looking for new versions of %s failed.", model.spec.name)

    async def keep_reloading(self) -> None:
        """Looks for newer versions until it is cancelled."""
        while True:
            await asyncio.sleep(self.options.reload_every)
            await self.reload()

    async def drain(self) -> None:
        """Waits until nothing runs or waits."""
        for model in self.models.values():
            await model.current.drain()


def check_specs(specs: Sequence[ModelSpec]) -> None:
    """Checks that no two models have the same languages.

    Raises:
        InputError: Two have.
    """
    names = [spec.name for spec in specs]
    for spec in specs:
        if names.count(spec.name) > 1:
            raise InputError(f"Two models translate {spec.source} into {spec.target}.")
