"""Translations while the model writes them: a sentence of a document, or a token, at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ktransformer.decoding import Context, FirstTokens
from ktransformer.decoding.hypotheses import number_positions, write_token
from ktransformer.decoding.rule_set import RuleSet
from ktransformer.tasks.controls import Controls
from ktransformer.tasks.document_outputs import encode_documents, split_lines
from ktransformer.tasks.prefixes import Prefixes, begins_word, read_prefixes, restore_prefixes
from ktransformer.tasks.written_texts import decode_n_best, lengths_of

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator


_BYTES, _SENTENCES = 1 << 14, 4  # Taken at once by `stream_document`.


def stream_document(translator: "Translator", text: str | bytes) -> Iterator[str]:
    """Translates a document and yields it sentence by sentence; see `Translator.stream`."""
    (whole,) = encode_documents([text])
    for piece in split_lines(whole, _BYTES):
        found = translator.find_sentences([piece], 0, 1)
        places = [
            *zip(*(found[f"source_{end}"].numpy() for end in ("starts", "ends")), strict=True)
        ]
        done = 0
        for first in range(0, len(places), _SENTENCES):
            chosen = places[first : first + _SENTENCES]
            sentences = tf.constant([piece[start:end] for start, end in chosen])
            translations = translator.translate_texts(sentences)["text"].numpy()
            for (start, end), translation in zip(chosen, translations, strict=True):
                yield (piece[done:start] + translation).decode(errors="surrogateescape")
                done = end
        if done < len(piece):
            yield piece[done:].decode(errors="surrogateescape")


def stream_tokens(translator: "Translator", text: str, *, prefix: str = "") -> Iterator[str]:
    """Translates one text by greedy search, and yields it each time that it has grown by a token.

    The rules of the translator's settings apply; a coverage penalty changes no greedy search.

    A text with spans that the setting `copy` names comes in one piece: they are put back at the
    end, when all words are there.

    Args:
        translator: The translator; a shortlist of it is not used.
        text: The text.
        prefix: The beginning of the translation, which is part of every value; see `Controls`.

    Yields:
        The translation so far: first the prefix, last the translation of greedy search.

    Raises:
        InputError: A prefix is given and the translator copies spans.
    """
    Controls(prefix=prefix).check_copy(translator.decoding.copy)
    yield prefix
    texts, copied = translator._take_out(tf.constant([text]))
    has_spans = copied is not None and int(copied.row_splits[-1]) > 0
    if translator.copier is not None and not (has_spans or translator.copier.has_symbols):
        copied = None  # Nothing to put back, and no symbol that the model might make up.
    shown = tf.constant([[prefix]])
    for shown in _stream_values(translator, texts, prefix):
        if not has_spans:
            yield _to_string(translator._put_back(shown, copied))
    if has_spans:
        yield _to_string(translator._put_back(shown, copied))


def _to_string(texts: tf.Tensor) -> str:
    """Returns the one text of a tensor `[1, 1]`."""
    return bytes(texts.numpy()[0, 0]).decode(errors="replace")


def _stream_values(translator: "Translator", texts: tf.Tensor, prefix: str) -> Iterator[tf.Tensor]:
    """Yields the translation of a text `[1]` after each token: string `[1, 1]`."""
    source, given = translator.to_ids(texts), tf.constant([prefix])
    if int(lengths_of(source, translator.model.pad_id)[0]) - translator.has_language <= 1:
        return  # A text of nothing.
    tokenizer, special = translator.target_tokenizer, translator.special_search_ids()
    prefixes = read_prefixes(tokenizer, given, translator.max_target_length)
    written = int(prefixes.lengths[0])
    state = dict(translator.encode(source))
    limit = tf.minimum(state.pop("limits"), translator.max_target_length - written)
    rule_states = _rules(translator, prefixes, source).start(tf.constant(1))
    newest = tf.constant([special.start])
    ids = tf.fill([1, translator.max_target_length], special.pad)
    for index in range(written + max(int(limit[0]), 1)):
        chosen, cache, rule_states = translator.choose_next(
            newest, tf.constant(index), ids, prefixes, limit, state, rule_states
        )
        state |= cache
        newest = prefixes.ids[:, index] if index < written else chosen
        if index >= written and int(newest[0]) == special.end:
            return
        ids = write_token(ids, number_positions(1, ids.shape[1]), tf.constant(index), newest)
        if index >= written:
            found = decode_n_best(tokenizer, tf.expand_dims(ids, 1))
            yield restore_prefixes(tokenizer, found, given, prefixes)


def choose_next(
    translator: "Translator",
    newest: tf.Tensor,
    index: tf.Tensor,
    ids: tf.Tensor,
    prefixes: Prefixes,
    limit: tf.Tensor,
    state: dict[str, tf.Tensor],
    rule_states: Any,
) -> tuple[tf.Tensor, dict[str, tf.Tensor], Any]:
    """Chooses the token after the newest one, as greedy search does.

    Args:
        translator: The translator.
        newest: Int32 `[1]`, the newest token.
        index: Int32 scalar, its position, from 0.
        ids: Int32 `[1, T]`, the tokens so far.
        prefixes: The prefix.
        limit: Int32 `[1]`, the most tokens after the prefix.
        state: What `Translator.encode` returned, with the last cache.
        rule_states: The states of the rules.

    Returns:
        The token, `[1]`, the next cache and the rules' next states.
    """
    cache = translator.decode_step(newest, index, **state)
    context = Context(
        index=index,
        ids=ids,
        written=number_positions(1, ids.shape[1]) < index,
        counts=index - prefixes.lengths,
        limits=limit,
        special=translator.special_search_ids(),
    )
    rules = _rules(translator, prefixes)
    logits, rule_states = rules.apply(cache.pop("logits"), context, rule_states)
    return tf.argmax(logits, axis=1, output_type=tf.int32), cache, rule_states


def _rules(
    translator: "Translator", prefixes: Prefixes, source: tf.Tensor | None = None
) -> RuleSet:
    first = FirstTokens(tf.constant(begins_word(translator.target_tokenizer)), prefixes.ends_word)
    rules = (*translator.find_rules(source=source), first)
    return RuleSet(rules, translator.special_search_ids())
