"""Words that become pieces of a run's vocabulary."""

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from ktransformer.cli import main
from ktransformer.engines import LiteEngine
from ktransformer.errors import InputError
from ktransformer.fitting.extending import extend_vocabulary
from ktransformer.saving.run import load_run
from tests.run_command import refusal

WORDS = ["onefour", "fournine", "onefournine", "69", "ŵeird"]
TEXTS = ["one onefour", "onefournine two 69", "xonefour onefours fournine", "ŵeird five", "seven"]


@pytest.fixture(scope="module")
def runs(run_folder):
    run = load_run(run_folder)
    return run, extend_vocabulary(run, WORDS)


def test_each_word_is_one_piece_and_other_texts_are_encoded_as_before(runs, data_folder):
    run, extended = (each.tokenizer for each in runs)
    size = run.vocabulary_size
    assert extended.vocabulary_size == size + len(WORDS)
    found = [ids.tolist() for ids in extended.encode_lines(WORDS)]
    assert found == [[size + i, run.special_ids.end] for i in range(len(WORDS))]
    assert extended.decode(tf.constant(found))[2].numpy().decode() == "onefournine"
    lines = (data_folder / "test.source").read_text().splitlines()
    for before, after in zip(run.encode_lines(lines), extended.encode_lines(lines), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_graph_computes_the_ids_of_sentencepiece(runs):
    tokenizer = runs[1].tokenizer
    assert tokenizer.lite_obstacle is None  # It runs in the form that LiteRT has.
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    expected = [[*ids, tokenizer.special_ids.end] for ids in processor.encode(TEXTS)]
    assert tokenizer.encode(tf.constant(TEXTS)).to_list() == expected


def test_a_new_row_is_the_mean_of_the_rows_of_the_pieces_before(runs):
    run, extended = runs
    before = run.model.source_embedding.embeddings.numpy()
    after = extended.model.source_embedding.embeddings.numpy()
    np.testing.assert_array_equal(after[: len(before)], before)
    for word, row in zip(WORDS, after[len(before) :], strict=True):
        ids = run.tokenizer.encode_lines([word])[0][:-1]  # Without the end token.
        np.testing.assert_allclose(row, before[ids].mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ([], "no word"),
        (["two words"], "one word.*'two words'"),
        ([""], "one word.*''"),
        (["seven", "seven"], "'seven'"),
        (["new", "new"], "once.*'new'"),
    ],
)
def test_words_that_are_no_new_pieces_are_refused(words, rule, runs):
    with pytest.raises(InputError, match=rule):
        extend_vocabulary(runs[0], words)


@pytest.mark.long
def test_a_run_is_extended_fine_tuned_and_exported_by_the_command(run_folder, tmp_path, capsys):
    (tmp_path / "words").write_text("elf\nzwölf\n")
    (tmp_path / "source").write_text("elf one\nzwölf\nelf\n" * 20)
    (tmp_path / "target").write_text("111\n12\n11\n" * 20)
    extended, tuned, lite = (tmp_path / name for name in ("extended", "tuned", "tuned.tflite"))
    sides = ("--source", tmp_path / "source", "--target", tmp_path / "target")
    again = ("--words", tmp_path / "words", "--output")
    train = ("train", "--from", extended, *sides, "--output", tuned)
    settings = ("--set", "epochs=40", "--set", "learning_rate=0.01")
    export = ("export", tuned, "--format", "tflite", "--beam-size", 1, "--output", lite)
    for words in (("extend", run_folder, *again, extended), (*train, *settings), export):
        assert main([str(word) for word in words]) == 0
    assert "pieces: " in capsys.readouterr().out
    assert LiteEngine(lite).translate(["elf", "zwölf", "elf one"]) == ["11", "12", "111"]
    assert "'elf'" in refusal(capsys, "extend", extended, *again, tmp_path / "again")
