import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.cli import export as export_command
from ktransformer.cli import main
from ktransformer.config import BatchingConfig
from ktransformer.decoding import SpecialIds, beam_search
from ktransformer.engines import LiteEngine
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.models import Transformer
from ktransformer.tasks import Shortlist, Translator
from ktransformer.tasks.transformer_search import TransformerSearch
from ktransformer.text.lexicon import Lexicon, train_lexicon
from tests.run_command import refusal
from tests.small_translator import lexicon_of

SEARCH_IDS = SpecialIds(start=2, end=3, pad=0, suppressed=(0, 2, 1))
TEXTS = ["four zero two", "", "nine", "seven seven seven one six"]


def with_shortlist(translator, size=24, **decoding) -> Translator:
    decoding = dataclasses.replace(translator.decoding, **decoding)
    shortlist = Shortlist(lexicon_of(translator), size)
    return Translator(translator.model, translator.tokenizer, decoding, shortlist)


def test_the_special_and_frequent_pieces_come_first_then_the_likeliest_translations():
    translations = np.zeros((12, 2), np.int32)
    translations[5], translations[6], translations[7] = [8, 9], [10, 8], [11, 0]
    lexicon = Lexicon(translations, frequent=np.array([4], np.int32))

    def choose(size, *sources):
        return Shortlist(lexicon, size).choose(tf.constant(sources)).numpy().tolist()

    # 8 has a vote of 1 and one of 1/2, 10 one of 1, 9 one of 1/2; padding has none.
    assert choose(6, [5, 3, 0], [6, 3, 0]) == [0, 1, 2, 3, 4, 8]
    assert choose(7, [5, 3, 0], [6, 3, 0]) == [0, 1, 2, 3, 4, 8, 10]
    assert choose(6, [7, 3]) == [0, 1, 2, 3, 4, 11]
    assert choose(5, *[[7, 5]] * 2000) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("tie_embeddings", "output_bias"), [(True, False), (False, True)])
def test_a_search_is_that_of_the_whole_vocabulary_with_the_rest_ruled_out(
    tie_embeddings, output_bias, translator
):
    tokenizer = translator.tokenizer
    model = Transformer(
        tokenizer.vocabulary_size,
        num_layers=1,
        d_model=16,
        num_heads=2,
        hidden_dim=16,
        max_length=16,
        tie_embeddings=tie_embeddings,
        output_bias=output_bias,
    )
    model.build()
    if output_bias:
        model.output_bias_weight.assign(np.linspace(-3, 3, tokenizer.vocabulary_size))
    narrow = with_shortlist(Translator(model, tokenizer), max_length_offset=3, beam_size=3)
    source = narrow.to_ids(tf.constant(TEXTS[:1]))
    chosen = narrow.shortlist.choose(source).numpy()
    others = np.setdiff1d(np.arange(tokenizer.vocabulary_size), chosen)

    class OnlyTheChosen(TransformerSearch):
        """All logits, of which the others' are as good as minus infinity."""

        def step(self, *arguments):
            logits, state = super().step(*arguments)
            far = np.where(np.isin(np.arange(logits.shape[-1]), others), 1e4, 0.0)
            return logits - far.astype("float32"), state

    found = narrow.search(source)
    limits = narrow.find_limits(source)
    wanted = beam_search(OnlyTheChosen(model, source), limits, SEARCH_IDS, beam_size=3)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)
    assert np.isin(found.ids, chosen).all()


@pytest.mark.parametrize("beam_size", [pytest.param(1, marks=pytest.mark.long), 3])
def test_a_shortlist_that_holds_the_translations_gives_them(beam_size, translator, tmp_path):
    narrow = with_shortlist(translator, beam_size=beam_size)
    expected = narrow.translate_texts(tf.constant(TEXTS))["text"].numpy().tolist()
    assert expected == [b"402", b"", b"9", b"77716"]
    path = export_lite(narrow, tmp_path / "narrow.tflite", signatures=["serving_default"])
    engine = LiteEngine(path)
    assert engine.description.shortlist == 24
    assert engine.translate(TEXTS) == ["402", "", "9", "77716"]


@pytest.mark.parametrize("size", [6, 1000])
def test_a_size_without_room_or_without_effect_is_an_error(size, translator):
    with pytest.raises(InputError, match=f"7.*{size}"):
        with_shortlist(translator, size)


def test_requests_are_not_joined_where_there_is_a_shortlist(
    translator, run_folder, tmp_path, capsys
):
    with pytest.raises(InputError, match="shortlist"):
        export_saved_model(with_shortlist(translator), tmp_path / "m", batching=BatchingConfig(4))
    export = ["export", run_folder, "--output", tmp_path / "m", "--batch-requests", 4]
    reason = refusal(capsys, *export, "--shortlist", "absent", "absent")
    assert "--shortlist does not go with --batch-requests" in reason
    assert not (tmp_path / "m").exists()


def test_the_command_learns_from_a_sample_of_a_long_text(
    run_folder, data_folder, tmp_path, monkeypatch
):
    pairs = []

    def learn(sources, targets, *arguments, **options):
        pairs.append((len(sources), len(targets)))
        return train_lexicon(sources, targets, *arguments, **options)

    monkeypatch.setattr(export_command, "_SHORTLIST_PAIRS", 100)
    monkeypatch.setattr("ktransformer.tasks.shortlist.train_lexicon", learn)
    text = [str(data_folder / f"train.{side}") for side in ("source", "target")]
    export = ["export", str(run_folder), "--output", str(tmp_path / "model"), "--shortlist", *text]
    assert main([*export, "--shortlist-size", "1"]) == 2  # Too few, which is seen thereafter.
    assert pairs == [(100, 100)]


@pytest.mark.long
def test_the_command_exports_with_a_shortlist(run_folder, data_folder, tmp_path, capsys):
    text = [str(data_folder / f"train.{side}") for side in ("source", "target")]
    options = ["export", str(run_folder), "--output", str(tmp_path / "model"), "--shortlist", *text]
    assert main([*options, "--shortlist-size", "10000"]) == 2
    assert "A shortlist must have" in capsys.readouterr().err
    assert main([*options, "--shortlist-size", "39"]) == 0
    about = json.loads((tmp_path / "model" / "1" / "ktransformer.json").read_text())
    assert about["shortlist"] == 39
