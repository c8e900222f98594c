"""Translates whole corpora, file by file, in one process or on a Ray cluster."""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names

if TYPE_CHECKING:
    from ktransformer.corpora.report import Report
    from ktransformer.corpora.translating import Progress, translate_corpus

__all__ = [
    "Progress",
    "Report",
    "translate_corpus",
]

if not TYPE_CHECKING:  # A type checker would take it to have any name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Report": "report",
            "Progress": "translating",
            "translate_corpus": "translating",
        },
    )
