"""The translations of a request's texts, of the sentences that they are made of."""

import dataclasses
from collections.abc import Sequence

from ktransformer.engines import DocumentTranslation, Engine, Translation


@dataclasses.dataclass(frozen=True)
class TranslatedSentence:
    """A sentence of a text, and its translations.

    Attributes:
        source: The sentence.
        texts: Its translations, best first.
        scores: Their scores, log-probability / length ** length_penalty.
        source_start: Where it begins in the text, in bytes of UTF-8.
        target_start: Where its best translation begins in the text's translation, likewise.
    """

    source: str
    texts: list[str]
    scores: list[float]
    source_start: int
    target_start: int


@dataclasses.dataclass(frozen=True)
class TranslatedText:
    """The translations of a text.

    Attributes:
        source: The text.
        texts: Its translations: of the best of all sentences, of the second best, and so on.
        sentences: Its sentences, in order.
        truncated: Whether something was cut off.
    """

    source: str
    texts: list[str]
    sentences: list[TranslatedSentence]
    truncated: bool

    @property
    def text(self) -> str:
        """The best translation."""
        return self.texts[0]


def translate_texts(engine: Engine, texts: Sequence[str]) -> list[TranslatedText]:
    """Translates texts of any length: sentence by sentence, or line by line.

    Args:
        engine: The engine; one that translates no documents, such as a .tflite of a fixed batch
            size, translates each line as one sentence.
        texts: The texts.
    """
    if engine.translates_documents:
        documents = engine.translate_document(texts)
        return [_from_document(*each) for each in zip(texts, documents, strict=True)]
    rows = [text.splitlines(keepends=True) for text in texts]
    lines = [line.strip() for row in rows for line in row]
    translations = iter(engine.translate_n_best(lines))
    return [_from_lines(row, [next(translations) for _ in row]) for row in rows]


def join(parts: Sequence[TranslatedText]) -> TranslatedText:
    """Joins the translations of a text's parts, one for each."""
    if len(parts) == 1:
        return parts[0]
    sentences = []
    read = written = 0
    for part in parts:
        for each in part.sentences:
            moved = each.source_start + read, each.target_start + written
            sentences.append(
                dataclasses.replace(each, source_start=moved[0], target_start=moved[1])
            )
        read += len(part.source.encode())
        written += len(part.text.encode())
    return TranslatedText(
        "".join(part.source for part in parts),
        ["".join(part.text for part in parts)],
        sentences,
        any(part.truncated for part in parts),
    )


def with_alternatives(
    found: TranslatedText, translations: Sequence[Translation], count: int
) -> TranslatedText:
    """Adds further translations.

    Args:
        found: The translations of a text.
        translations: Those of each of its sentences, best first.
        count: How many of the text to make. Of a sentence that has fewer, the best is taken again.
    """
    texts = [found.text]
    for rank in range(1, count):
        content, end = [], 0
        target = found.text.encode()
        for each, others in zip(found.sentences, translations, strict=True):
            chosen = others.texts[rank] if rank < len(others.texts) else each.texts[0]
            content += [target[end : each.target_start], chosen.encode()]
            end = each.target_start + len(each.texts[0].encode())
        texts.append(b"".join([*content, target[end:]]).decode())
    sentences = [
        dataclasses.replace(
            each,
            texts=[*each.texts, *others.texts[1:count]],
            scores=[*each.scores, *others.scores[1:count]],
        )
        for each, others in zip(found.sentences, translations, strict=True)
    ]
    return dataclasses.replace(found, texts=texts, sentences=sentences)


def _from_document(source: str, document: DocumentTranslation) -> TranslatedText:
    sentences = [
        TranslatedSentence(
            each.source, [each.text], [each.score], each.source_start, each.target_start
        )
        for each in document.sentences
    ]
    return TranslatedText(source, [document.text], sentences, document.truncated)


def _from_lines(lines: Sequence[str], translations: Sequence[Translation]) -> TranslatedText:
    """Puts the translations of a text's lines into the white space that stood around them."""
    parts = []
    for line, found in zip(lines, translations, strict=True):
        content = line.strip()
        before, _, after = line.partition(content) if content else (line, "", "")
        start = len(before.encode())
        sentence = TranslatedSentence(content, [found.text], found.scores[:1], start, start)
        parts.append(
            TranslatedText(
                line,
                [before + found.text + after] if content else [line],
                [sentence] if content else [],
                found.truncated,
            )
        )
    return join(parts) if parts else TranslatedText("", [""], [], False)
