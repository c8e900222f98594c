import random

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.text import Tokenizer, load_tokenizer
from ktransformer.text.processor_tokenizer import ProcessorTokenizer

LINES = ["one two three", "1 2 3", "aaaa bbbb aab bba abab"]


@pytest.mark.parametrize("symbols", [(), ("<x1>",)])
def test_ids_and_texts_are_those_of_the_graph(symbols):
    tokenizer = Tokenizer.train(LINES, 60, symbols=symbols, mask=bool(symbols))
    plain = ProcessorTokenizer.open(tokenizer.model)
    generator = random.Random(4)
    parts = [*"abo1 ▁x漢", " ", "\t", "ﬁ", "\u3000", "<mask>", "</s>", *symbols]
    texts = [
        "".join(generator.choice(parts) for _ in range(generator.randrange(20))).encode()
        for _ in range(2000)
    ]
    ids, truncated = tokenizer.encode_dense(tf.constant(texts), 7)
    rows, cut = plain.encode_texts([*texts], 7)
    assert cut.tolist() == truncated.numpy().tolist()
    padded = np.zeros(ids.shape, np.int32)
    for row, found in zip(padded, rows, strict=True):
        row[: len(found)] = found
    np.testing.assert_array_equal(padded, ids)
    drawn = np.random.default_rng(0).integers(0, tokenizer.vocabulary_size, [2000, 6], np.int32)
    assert (
        plain.decode_rows(drawn.tolist()) == tokenizer.decode(tf.constant(drawn)).numpy().tolist()
    )


def test_a_tokenizer_with_other_ids_in_the_graph_is_left_to_it(tmp_path):
    table = {"<unk>": 0, "</s>": 1, "▁one": 2, "▁two": 3, "<pad>": 4}
    renumbered = Tokenizer.from_table(Tokenizer.train(LINES, 40).model, table)
    assert ProcessorTokenizer.open(renumbered.model) is None
    renumbered.save(tmp_path / "tokenizer.model")
    assert load_tokenizer(tmp_path / "tokenizer.model").vocabulary_size == 6  # `<s>` is added.
