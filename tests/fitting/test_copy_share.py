"""The validation of a training with symbols for spans: that of the translator it saves."""

import dataclasses

import pytest
import tensorflow as tf

from ktransformer.fitting.mixture import Mixture
from ktransformer.fitting.training import train
from ktransformer.fitting.training_data import TrainingData
from ktransformer.scores import score_texts
from ktransformer.tasks import Translator
from ktransformer.text import ParallelText
from ktransformer.text.spans import KINDS
from tests.fitting.small_training import small
from tests.small_run import number_pairs
from tests.small_translator import strings

TEXT = ParallelText(*map(list, zip(*number_pairs(100, seed=1), strict=True)), empty=0)
VALIDATION = ParallelText(["<formal> one <b> two"] * 2, ["1 <b> 2"] * 2, empty=0)
CONFIG = small(copy_share=0.5, tags="<formal>", vocabulary_size=60, bleu_sentences=2)


def test_validation_batches_have_symbols_where_both_sides_have_the_spans(tmp_path):
    data = TrainingData(lambda: (Mixture([TEXT]), VALIDATION), CONFIG, tmp_path, reuse=False)
    encoded = data.encode(None)
    assert encoded.config.decoding.copy == tuple(kind for kind in KINDS if kind != "numbers")
    tokenizer, _ = encoded.tokenizers
    ((inputs, labels), *_) = encoded.validation.epoch(0)
    expected = ["<formal> one <c0> two", "1 <c0> 2"]
    for ids, text in zip((inputs["source"], labels), expected, strict=True):
        assert [id_ for id_ in ids[0].tolist() if id_] == tokenizer.encode_lines([text])[0].tolist()


@pytest.mark.long
def test_the_scores_of_an_epoch_are_those_of_the_translator_that_copies(tmp_path):
    config = CONFIG.replace({"average_checkpoints": 1})
    run = train(config, TEXT, VALIDATION, checkpoints=tmp_path)
    greedy = dataclasses.replace(run.config.decoding, beam_size=1)
    translator = Translator(run.model, run.tokenizer, greedy)
    found = strings(translator.translate_texts(tf.constant(VALIDATION.sources))["text"])
    assert [text.count("<b>") for text in found] == [1, 1]
    assert run.history["val_chrf"] == [score_texts(found, VALIDATION.targets).chrf]
