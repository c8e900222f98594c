"""What `translate` warns of when it has translated all texts."""

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ktransformer.cli.engine import warn_of_texts

if TYPE_CHECKING:
    from ktransformer.engines import DocumentTranslation, Engine, TermTranslation, Translation

_log = logging.getLogger(__name__)


class TextWarnings:
    """Counts what was cut, broken, unknown or left out.

    Args:
        engine: The engine that translates.
    """

    def __init__(self, engine: "Engine") -> None:
        from ktransformer.text.unknown_characters import UnknownCharacters

        self._engine = engine
        about = engine.description
        self._unknown = UnknownCharacters(about.characters, about.symbols)
        self._truncated = self._broken = self._missing = 0

    def add(
        self,
        sources: Iterable[str],
        translations: "Sequence[Translation | TermTranslation | DocumentTranslation]",
    ) -> None:
        """Counts in texts and their translations, or in the sentences of a document and its one."""
        from ktransformer.engines import DocumentTranslation, TermTranslation

        self._unknown.add(sources)
        for each in translations:
            self._truncated += each.truncated
            if isinstance(each, DocumentTranslation):
                self._broken += sum(sentence.broken for sentence in each.sentences)
            if isinstance(each, DocumentTranslation | TermTranslation):
                self._missing += each.terms_found - each.terms_written

    def log(self) -> None:
        """Logs a warning for each count that is not zero."""
        warn_of_texts(self._engine, self._truncated, self._unknown)
        if self._broken:
            _log.warning(
                "Sentences of more than %s tokens were broken into %s parts.",
                self._engine.description.max_source_length,
                self._broken,
            )
        if self._missing:
            _log.warning("%s terms of the source are not in the translations.", self._missing)
