"""The translations of texts and documents, as engines return them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ktransformer.engines.annotation import Annotation, read_annotations
from ktransformer.tasks.document_outputs import slices_of


class Translation(NamedTuple):
    """The translations of one text.

    Attributes:
        texts: The translations, best first.
        scores: Their scores, log-probability / length ** length_penalty.
        truncated: Whether the source was cut to the longest that the model reads.
        annotations: The tokens of each translation, those of a prefix among them, with their scores
            and their alignment, if asked for; else none.
    """

    texts: list[str]
    scores: list[float]
    truncated: bool
    annotations: tuple[Annotation, ...] = ()

    @property
    def text(self) -> str:
        """The best translation."""
        return self.texts[0]


class DocumentSentence(NamedTuple):
    """A sentence of a document, or a part of one, and its translation.

    Attributes:
        source: The sentence.
        text: Its translation.
        source_start: Where it begins in the document, in bytes of UTF-8.
        target_start: Where its translation begins in that of the document, likewise.
        score: As of a `Translation`.
        broken: Whether it is a part of a sentence that is longer than the model reads.
    """

    source: str
    text: str
    source_start: int
    target_start: int
    score: float
    broken: bool


class DocumentTranslation(NamedTuple):
    """The translation of a document.

    Attributes:
        text: The translation. Bytes that are not UTF-8 are surrogates in it, as Python's error
            handler `surrogateescape` makes them.
        sentences: Its sentences, in order.
        truncated: Whether something was cut off: a single character of more tokens than the model
            reads.
        terms_found: With a terminology, the different terms of each sentence, added up.
        terms_written: Those of them whose target terms are in the sentence's translation.
    """

    text: str
    sentences: list[DocumentSentence]
    truncated: bool
    terms_found: int = 0
    terms_written: int = 0

    @property
    def texts(self) -> list[str]:
        """The translation alone, as of a `Translation`."""
        return [self.text]


class TermTranslation(NamedTuple):
    """The translation of one text with a terminology.

    Attributes:
        texts: The translation alone.
        scores: Its score.
        truncated: As of `Translation`.
        terms_found: The different terms of the source.
        terms_written: Those of them whose target terms are in the translation.
    """

    texts: list[str]
    scores: list[float]
    truncated: bool
    terms_found: int
    terms_written: int

    @property
    def text(self) -> str:
        """The translation."""
        return self.texts[0]


def to_translations(
    outputs: dict[str, np.ndarray], n_best: int, longer: Sequence[bool]
) -> list[Translation]:
    """Returns the translations of the texts; `longer` tells which of them were cut before."""
    rows = len(outputs["text"])
    texts = outputs["text"].reshape(rows, -1)[:, :n_best]
    scores = outputs["score"].reshape(rows, -1)[:, :n_best]
    return [
        Translation([text.decode() for text in row], values.tolist(), bool(cut) or before)
        for row, values, cut, before in zip(
            texts, scores, outputs["truncated"], longer, strict=False
        )
    ]


def to_annotated(
    sources: Sequence[str], outputs: dict[str, np.ndarray], longer: Sequence[bool]
) -> list[Translation]:
    """Returns the translations of the texts with their annotations, of the outputs of `controlled`.

    Args:
        sources: The texts.
        outputs: The outputs, with `annotate`.
        longer: Which of the texts were cut before.
    """
    k = outputs["text"].shape[1]
    found = to_translations(outputs, k, longer)
    annotated = []
    for row, (source, translation) in enumerate(zip(sources, found, strict=True)):
        own = {
            name: outputs[name][row]
            for name in ("tokens", "log_probability", "alignment", "weights")
        }
        for name in ("source_tokens", "truncated"):
            own[name] = np.repeat(outputs[name][row][None], k, axis=0)
        annotations = read_annotations([source] * k, translation.texts, own)
        annotated.append(translation._replace(annotations=tuple(annotations)))
    return annotated


def to_term_translations(
    outputs: dict[str, np.ndarray], longer: Sequence[bool]
) -> list[TermTranslation]:
    """Returns the translations of the texts with a terminology; see `to_translations`."""
    return [
        TermTranslation(*translation[:3], int(found), int(written))
        for translation, found, written in zip(
            to_translations(outputs, 1, longer),
            outputs["terms_found"],
            outputs["terms_written"],
            strict=False,
        )
    ]


def to_documents(sources: np.ndarray, outputs: dict[str, np.ndarray]) -> list[DocumentTranslation]:
    """Returns the translations of documents, of the outputs of `document`.

    With a terminology, these have `terms_found` and `terms_written`, int32 `[M]`, too.
    """
    places = outputs["row_splits"]
    terms = [outputs[name] for name in ("terms_found", "terms_written") if name in outputs]
    columns = (
        [_to_string(each) for each in slices_of(sources, outputs, "source")],
        [_to_string(each) for each in slices_of(outputs["text"], outputs, "target")],
        *(
            outputs[name].tolist()
            for name in ("source_starts", "target_starts", "scores", "broken")
        ),
    )
    sentences = [DocumentSentence(*each) for each in zip(*columns, strict=True)]
    return [
        DocumentTranslation(
            _to_string(text),
            sentences[start:end],
            bool(cut),
            *(int(counts[start:end].sum()) for counts in terms),
        )
        for text, start, end, cut in zip(
            outputs["text"], places, places[1:], outputs["truncated"], strict=False
        )
    ]


def _to_string(content: bytes) -> str:
    return content.decode(errors="surrogateescape")
