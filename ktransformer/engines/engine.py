"""The interface of everything that translates: strings in, strings out."""

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.engines import requests
from ktransformer.engines.annotation import Annotation, annotate_texts, to_strings
from ktransformer.engines.translations import (
    DocumentTranslation,
    TermTranslation,
    Translation,
    to_annotated,
    to_documents,
    to_term_translations,
    to_translations,
)
from ktransformer.errors import InputError
from ktransformer.numbers import to_integer
from ktransformer.tasks.document_outputs import encode_documents, sentences_inputs
from ktransformer.tasks.inputs import to_texts
from ktransformer.tasks.text_signatures import TEXT_SIGNATURES as TEXT_SIGNATURES
from ktransformer.tasks.translator_description import TranslatorDescription
from ktransformer.text.line_limits import cut_line
from ktransformer.text.tags import add_tag, find_tag

DOCUMENT, SENTENCES = "document", "sentences"
_TAGGED_INPUTS = {
    **dict.fromkeys((*TEXT_SIGNATURES, DOCUMENT, "controlled", "terms"), "texts"),
    **dict.fromkeys(("annotate", "score"), "source"),
}


class Engine(abc.ABC):
    """Translates texts; a form of engine implements `run`.

    Threads may share an engine; processes may not. An open export is not pickled, and a process
    that was forked after TensorFlow had run hangs at its first call: start processes with `spawn`
    and open an engine in each.

    Attributes:
        kind: The form of the model: `run`, `SavedModel` or `tflite`.
        description: The description of the model.
        path: Where it lies; None for a model of this process.
        concurrency: Batches that `translate_blocks` runs at the same time, from a thread each; 1
            unless the engine was opened for more.

    Args:
        description: The description of the model: lengths, beam size, signatures.
        path: Where it lies; None for a model of this process.
    """

    kind: str
    _model: Any = None  # The opened form that `run` runs.

    def __init__(self, description: TranslatorDescription, path: Path | None = None) -> None:
        self.description = description
        self.path = path
        self.concurrency = 1
        self._tag: str | None = None

    @abc.abstractmethod
    def run(self, signature: str, texts: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature of texts; a subclass implements it.

        Several threads may call it at a time.

        Args:
            signature: One of `signatures` that takes texts, such as `serving_default` or `beam`.
            texts: An array `[B]` of UTF-8, dtype object; B is at least 1, and `batch_size` where
                the description has one.
            **others: The further inputs of the signature, by name.

        Returns:
            `text`, bytes `[B]` (of `beam` `[B, K]`, best first); `score`, float32 of the same
            shape, log-probability / length ** length_penalty; `truncated`, boolean `[B]`, whether
            the text was cut.

        Raises:
            InputError: There is no such signature, or it takes other inputs.
        """

    def run_inputs(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature of any inputs.

        Args:
            signature: One of the description's `signatures`.
            **inputs: Its inputs, by name.

        Returns:
            Its outputs, by name.

        Raises:
            InputError: There is no such signature, or it takes other inputs.
        """
        outputs: dict[str, np.ndarray] = self._model.run(signature, **inputs)
        return outputs

    def run_tagged(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Runs a signature of any inputs, with the tag of `set_tag` before each text or sentence.

        Without a tag, and of a signature that reads ids or only finds sentences, this is
        `run_inputs`.

        Args:
            signature: As for `run_inputs`.
            **inputs: Likewise.

        Raises:
            InputError: As `run_inputs`; or the sentences of documents need a tag, and the export
                has no signature `sentences`.
        """
        name = _TAGGED_INPUTS.get(signature)
        texts = None if name is None or self._tag is None else _to_bytes(inputs.get(name))
        if name is None or not texts:
            return self.run_inputs(signature, **inputs)
        if signature == DOCUMENT and len(inputs) == 1:
            return self._translate_sentences(encode_documents(texts), self._tag)
        tagged = [_read(text, None, self._tag)[0] for text in texts]
        return self.run_inputs(signature, **{**inputs, name: np.array(tagged, dtype=object)})

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's inputs."""
        names: list[str] = self._model.inputs(signature)
        return names

    def annotate(self, sources: Sequence[str], targets: Sequence[str]) -> list[Annotation]:
        """Scores and aligns the tokens of translations; see `annotation.annotate_texts`."""
        return annotate_texts(self, sources, targets, tag=self._tag)

    def warmup(self) -> None:
        """Runs every signature of texts once, so that no user's request is the first."""
        texts = np.array([b"a"] * (self.description.batch_size or 1), dtype=object)
        for name in (*TEXT_SIGNATURES, DOCUMENT):
            if name in self.signatures:
                self.run(name, texts)

    def set_tag(self, tag: str) -> None:
        """Puts a tag before every text from now on.

        Raises:
            InputError: The model has no such symbol, or the export puts another before every text.
        """
        self._tag = self._find_tag(tag)

    def _find_tag(self, tag: str) -> str | None:
        """Returns the symbol that a tag names; None where the model itself puts it there."""
        symbol, own = find_tag(tag, self.description.symbols), self.description.decoding.tag
        if own is None:
            return symbol
        if find_tag(own, self.description.symbols) != symbol:
            raise InputError(
                f"tag must be {own}, which the model puts before every text; got {tag!r}."
            )
        return None

    def translate(self, texts: Sequence[str], *, tag: str | None = None) -> list[str]:
        """Returns the best translation of each text."""
        return [translation.text for translation in self.translate_n_best(texts, tag=tag)]

    def translate_n_best(
        self, texts: Sequence[str], n_best: int = 1, *, tag: str | None = None
    ) -> list[Translation]:
        """Translates texts at once, or in batches of the size that the export is fixed to.

        Args:
            texts: The texts, as a list, a NumPy array or a tensor; none gives none. Of each at most
                64 characters are read for each token of the longest source; one that is longer is
                truncated.
            n_best: The number of translations of each, at most the beam size.
            tag: A symbol of the model to put before each text, such as `2de` for `<2de>`; None for
                that of `set_tag`, if any. A text may as well begin with the symbol itself.

        Raises:
            InputError: `n_best` is not from 1 to the beam size, the model has no such tag, or is
                fixed to another, a signature is missing, or one of
                `texts` is no string.
            TypeError: `texts` is a single string.
        """
        given = to_texts(texts)
        symbol = self._tag if tag is None else self._find_tag(tag)
        run = requests.plain(self, n_best)
        return self._translate(given, n_best, run, symbol)

    def translate_controlled(self, texts: Sequence[str], **options: Any) -> list[Translation]:
        """Translates texts as a request asks: with a prefix, by other rules, or by sampling.

        Args:
            texts: As for `translate_n_best`.
            **options: Fields of `tasks.Controls`. With `annotate=True` each translation has its
                `annotations`.

        Raises:
            InputError: An option is out of its range, a prefix is given and the model copies spans,
                the export has no signature `controlled`, or
                one of `texts` is no string.
            TypeError: `texts` is a single string, or there is no such option.
        """
        from ktransformer.tasks.controls import Controls  # It needs TensorFlow.

        given = to_texts(texts)
        controls = Controls(**options)
        run = requests.steered(self, controls, len(given))
        if not controls.annotate:
            return self._translate(given, controls.n_best, run)
        sources = iter(to_strings(given))
        return [
            translation
            for outputs, longer in self._run_batches(given, run)
            for translation in to_annotated([next(sources) for _ in longer], outputs, longer)
        ]

    def alternatives(
        self, text: str, translation: str, position: int, n_best: int = 5
    ) -> Translation:
        """Returns the best other ways to go on from a position of a translation.

        Args:
            text: The source.
            translation: Its translation, or only the part before the position.
            position: Characters of the translation that stay as they are. After a space a new
                word begins.
            n_best: How many; each goes on with another token, the most probable ones.

        Raises:
            InputError: `position` is outside of the translation; or as `translate_controlled`.
        """
        position = to_integer("position", position, least=0, most=len(translation))
        (found,) = self.translate_controlled(
            [text], prefix=translation[:position], n_best=n_best, alternatives=True
        )
        return found

    def translate_with_terms(
        self, texts: Sequence[str], terms: requests.Terms
    ) -> list[TermTranslation]:
        """Translates texts with a terminology; see `Translator.translate_with_terms`.

        Args:
            texts: As for `translate_n_best`.
            terms: The target term of each source term, or pairs of both.

        Raises:
            InputError: There is no signature `terms`, or one of `terms` is none; see
                `ktransformer.text.terms.check_terms`.
        """
        run = requests.with_terms(self, terms)
        return [
            translation
            for outputs, longer in self._run_batches(to_texts(texts), run)
            for translation in to_term_translations(outputs, longer)
        ]

    def _translate(
        self,
        texts: Sequence[str | bytes],
        n_best: int,
        run: requests.Run,
        tag: str | None = None,
    ) -> list[Translation]:
        """Runs texts in batches, and returns `n_best` translations of each."""
        return [
            translation
            for outputs, longer in self._run_batches(texts, run, tag)
            for translation in to_translations(outputs, n_best, longer)
        ]

    def _run_batches(
        self,
        texts: Sequence[str | bytes],
        run: requests.Run,
        tag: str | None = None,
        *,
        whole: bool = False,
    ) -> Iterator[tuple[dict[str, np.ndarray], list[bool]]]:
        """Runs texts in batches of the size that the export is fixed to, if it is.

        A symbol, `tag` or that of `set_tag`, is put before each. Texts that are known to fit are
        read `whole`.

        Yields:
            The outputs of each batch, and which of its texts are longer than what is read.
        """
        tag = tag or self._tag
        size = self.description.batch_size or max(len(texts), 1)
        limit = None if whole else self.description.max_source_length
        for start in range(0, len(texts), size):
            chosen = texts[start : start + size]
            padding = [b""] * (size - len(chosen)) if self.description.batch_size else []
            read = [_read(text, limit, tag) for text in chosen]
            batch = np.array([*(content for content, _ in read), *padding], dtype=object)
            yield run(batch, start), [longer for _, longer in read]

    def translate_document(
        self,
        texts: Sequence[str | bytes],
        *,
        tag: str | None = None,
        terms: requests.Terms | None = None,
        **controls: Any,
    ) -> list[DocumentTranslation]:
        """Translates documents sentence by sentence, and keeps all that is between them.

        Args:
            texts: The documents, of any length; see `documents.translate_documents`.
            tag: A symbol to put before each sentence; see `translate_n_best`.
            terms: A terminology for each sentence; see `translate_with_terms`.
            **controls: Options of the search for each sentence, as for `translate_controlled`, but
                none that is for a single translation: `prefix`, `n_best`, `alternatives`.

        Raises:
            InputError: `terms` come with `controls`, one of these is out of its range or for a
                single translation, a signature is missing, or one of `texts` is no string.
            TypeError: `texts` is a single string, or there is no such option.
        """
        documents = encode_documents(to_texts(texts))
        symbol = self._tag if tag is None else self._find_tag(tag)
        has_own_way = symbol is not None or terms is not None or bool(controls)
        if not has_own_way and DOCUMENT in self.signatures:
            return to_documents(documents, self.run(DOCUMENT, documents)) if len(documents) else []
        outputs = self._translate_sentences(documents, symbol, terms, **controls)
        return to_documents(documents, outputs)

    def _translate_sentences(
        self,
        documents: np.ndarray,
        symbol: str | None,
        terms: requests.Terms | None = None,
        **controls: Any,
    ) -> dict[str, np.ndarray]:
        """Translates the sentences of documents by a signature of single texts.

        Returns:
            The outputs of the signature `document`.
        """
        from ktransformer.engines.documents import to_controls, translate_in_place

        if terms is not None and controls:
            raise InputError("terms do not go with options of the search.")
        read = _read_best if terms is None else to_term_translations
        if terms is not None:
            run = requests.with_terms(self, terms)
        elif controls:
            run = requests.steered(self, to_controls(controls), 0)
        else:
            run = requests.plain(self)

        def translate(sentences: list[bytes]) -> list[Translation | TermTranslation]:
            batches = self._run_batches(sentences, run, symbol, whole=True)
            return [each for outputs, longer in batches for each in read(outputs, longer)]

        found = self.find_sentences(
            documents, reserved=int(symbol is not None), copied=terms is None and not controls
        )
        return translate_in_place(documents, found, translate)

    @property
    def translates_documents(self) -> bool:
        """Whether `translate_document` works: with the tag of `set_tag` it needs `sentences`."""
        needed = {DOCUMENT} if self._tag is None else {DOCUMENT, SENTENCES}
        return needed <= set(self.signatures)

    def find_sentences(
        self, documents: np.ndarray, *, reserved: int = 0, copied: bool = True
    ) -> dict[str, np.ndarray]:
        """Finds the sentences of documents, as the signature `sentences` returns them.

        Args:
            documents: Bytes `[B]`.
            reserved: See `Translator.find_sentences`.
            copied: Likewise.

        Raises:
            InputError: The export has no such signature.
        """
        if SENTENCES not in self.signatures:
            raise InputError(
                f"The sentences of documents are found by the signature {SENTENCES}, which this "
                f"export lacks: it has {', '.join(self.signatures)}."
            )
        return self.run(SENTENCES, **sentences_inputs(documents, reserved=reserved, copied=copied))

    def find_signature(self, n_best: int = 1) -> str:
        """Returns the name of the signature that gives `n_best` translations of texts.

        Raises:
            InputError: There is none, or `n_best` is not from 1 to the beam size.
        """
        beam_size = self.description.decoding.beam_size
        if not 1 <= to_integer("n_best", n_best) <= beam_size:
            raise InputError(
                f"n_best must be at least 1 and at most the beam size, {beam_size}; got {n_best}."
            )
        wanted = ("serving_default", "beam") if n_best == 1 else ("beam",)
        for name in wanted:
            if name in self.signatures:
                return name
        raise InputError(
            f"This export has no signature {' or '.join(wanted)}, only "
            f"{', '.join(self.description.signatures)}: export it with --signatures {wanted[-1]}."
        )

    @property
    def signatures(self) -> tuple[str, ...]:
        """The signatures that `run` takes."""
        return self.description.signatures


def _read_best(outputs: dict[str, np.ndarray], longer: Sequence[bool]) -> list[Translation]:
    return to_translations(outputs, 1, longer)


def _read(text: str | bytes, max_length: int | None, tag: str | None) -> tuple[bytes, bool]:
    """Returns the part of a text that is read, in UTF-8, and whether the text is longer.

    A `tag` is put before it, unless it is empty. Without a `max_length` all of it is read.
    """
    whole = add_tag(text if isinstance(text, str) else text.decode(errors="replace"), tag)
    cut = whole if max_length is None else cut_line(whole, max_length)
    return cut.encode(), cut is not whole


def _to_bytes(texts: Any) -> list[bytes] | None:
    """Returns texts, as a list or an array `[B]` of UTF-8; None for anything else."""
    found = texts.tolist() if isinstance(texts, np.ndarray) else texts
    is_texts = isinstance(found, list) and all(isinstance(each, bytes) for each in found)
    return found if is_texts else None
