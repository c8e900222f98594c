"""What a server tells of its work to whoever measures it."""

from collections.abc import Sequence

from ktransformer.serving.batching import BatchReport
from ktransformer.serving.translated import TranslatedText


class Observer:
    """Is told of requests, texts and batches, in the event loop; a subclass counts them."""

    def add_request(self, route: str, status: int, seconds: float) -> None:
        """Is told of a request that was answered."""

    def add_texts(self, model: str, found: Sequence[TranslatedText]) -> None:
        """Is told of texts that were translated."""

    def add_batch(self, model: str, report: BatchReport, waiting_tokens: int) -> None:
        """Is told of a batch that ran, and of how much waits now."""

    def set_version(self, model: str, version: int) -> None:
        """Is told which version of a model is served now."""
