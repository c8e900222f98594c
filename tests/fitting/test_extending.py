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


@pytest.fixture(scope="module")
def tagged(runs):
    """The run with a symbol and a tag, then with a word, another symbol and another tag."""
    first = extend_vocabulary(runs[0], symbols=["<x1>"], tags=["<2de>"])
    return first, extend_vocabulary(first, ["onefour"], symbols=["<x2>"], tags=["<2fr>"])


def test_symbols_are_added_and_other_texts_are_encoded_as_before(runs, tagged):
    run, (first, second) = runs[0], tagged
    size, end = run.tokenizer.vocabulary_size, run.tokenizer.special_ids.end
    assert first.tokenizer.symbols == {"<x1>": size, "<2de>": size + 1}
    names = ("<x1>", "<2de>", "<x2>", "<2fr>")
    assert second.tokenizer.symbols == {name: size + 1 + i for i, name in enumerate(names)}
    assert second.tokenizer.tags == second.config.data.tags == ("<2de>", "<2fr>")
    assert second.config.data.symbols == ("<x1>", "<x2>")
    assert second.config.data.vocabulary_size == second.model.vocabulary_size == size + 9
    found = second.tokenizer.encode_lines(["<2fr> seven", "onefour", "seven<x1>"])
    (seven,) = run.tokenizer.encode_lines(["seven"])
    assert [ids.tolist() for ids in found] == [
        [size + 4, *seven],
        [size, end],
        [*seven[:-1], size + 1, end],
    ]


def test_the_row_of_a_symbol_is_kept_or_the_mean_of_its_pieces_before(runs, tagged):
    tables = [run.model.source_embedding.embeddings.numpy() for run in (runs[0], *tagged)]
    size = runs[0].tokenizer.vocabulary_size
    ids = runs[0].tokenizer.encode_lines(["<2de>"])[0][:-1]
    np.testing.assert_allclose(tables[1][size + 1], tables[0][ids].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(tables[2][size + 1 : size + 3], tables[1][size : size + 2])
    for table in tables:
        np.testing.assert_array_equal(table[:size], tables[0])
    ids = tagged[0].tokenizer.encode_lines(["<2fr>"])[0][:-1]
    np.testing.assert_allclose(tables[2][size + 4], tables[1][ids].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("symbol", ["<2de>", "one", "a b"])
def test_symbols_that_are_pieces_already_or_do_not_fit_are_refused(symbol, tagged):
    with pytest.raises(InputError, match=symbol):
        extend_vocabulary(tagged[0], symbols=[symbol])


def test_a_run_is_extended_with_tags_by_the_command(run_folder, tmp_path):
    line = ("extend", run_folder, "--tags", "<2de>", "--output", tmp_path / "run")
    assert main([str(word) for word in line]) == 0
    assert load_run(tmp_path / "run").tokenizer.tags == ("<2de>",)
