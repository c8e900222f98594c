import argparse
import json
import re

import keras
import numpy as np
import pytest

from ktransformer.errors import InputError
from tests.run_command import ROOT, program
from training.masked_lm.baselines import Bigrams, Targets
from training.masked_lm.classify import Classifier, swap_words
from training.masked_lm.evaluate import left_of
from training.masked_lm.language_model import load
from training.masked_lm.settings import Settings

SMALL = ["d_model=16", "num_layers=1", "num_heads=2", "hidden_dim=32", "max_length=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a tiny text, and a language model that the recipe made of it."""
    folder = tmp_path_factory.mktemp("masked_lm")
    animals, deeds = ("dogs", "cats", "birds", "horses"), ("run", "sleep", "eat")
    lines = [f"{n} {a} {d} ." for n in ("two", "ten") for a in animals for d in deeds]
    (folder / "text").write_text("\n".join(lines * 8) + "\n", encoding="utf-8")
    paths = ["--text", folder / "text", "--validation", folder / "text", "--output", folder / "run"]
    settings = ["--set", "epochs=2", "vocabulary_size=60", "batch_tokens=256", *SMALL]
    result = program("training.masked_lm.train", *paths, *settings)
    assert result.returncode == 0, result.stderr
    (folder / "table").write_text(result.stdout, encoding="utf-8")
    return folder


@pytest.mark.long
def test_train_writes_a_folder_and_compares_with_counting(folder):
    filler = load(folder / "run")
    assert filler.model.vocabulary_size == filler.tokenizer.vocabulary_size
    assert len(filler.fill("two <mask> run .", top_k=3)) == 3
    history = json.loads((folder / "run" / "history.json").read_text(encoding="utf-8"))
    assert len(history["val_perplexity"]) == 2
    assert (folder / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "table").read_text(encoding="utf-8")
    names = [line.split("|")[1].strip() for line in table.splitlines()]
    assert names[2:] == ["unigram", "bigram", "masked language model"]
    assert re.match(r"[\d,]+ masked tokens", names[0])


def test_settings_come_from_a_file_and_then_from_the_command_line():
    file = str(ROOT / "training" / "masked_lm" / "multi30k.yaml")
    changes = ["learning_rate=0.5", "positions=sinusoidal"]
    settings = Settings.from_arguments(argparse.Namespace(config=file, set=changes))
    assert (settings.max_length, settings.learning_rate) == (64, 0.5)
    assert settings.positions == "sinusoidal"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a=1", "'a'.*activation"),
        ("epochs=many", "epochs.*int.*'many'"),
        ("epochs=0", "epochs.*1.*epochs=0"),
        ("warmup_steps=0", "warmup_steps.*1.*warmup_steps=0"),
        ("learning_rate=0", "learning_rate.*0.*learning_rate=0"),
        ("seed=-1", "seed.*4294967295.*seed=-1"),
        ("epochs=2.7", "epochs.*int.*'2.7'"),
        ("epochs", "--set.*'epochs'"),
    ],
)
def test_a_wrong_setting_is_an_input_error(change, message):
    with pytest.raises(InputError, match=message):
        Settings.from_arguments(argparse.Namespace(config=None, set=[change]))


@pytest.mark.long
def test_a_classifier_is_trained_on_the_language_model(folder):
    model = load(folder / "run").model
    before = model.embedding.get_weights()[0]
    classifier = Classifier(model, num_classes=3)
    ids, labels = np.array([[5, 6, 3, 0], [7, 3, 0, 0]]), np.array([2, 0])
    classifier.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.fit(ids, labels, epochs=2, verbose=0)
    assert classifier(ids).shape == (2, 3)
    changed = np.abs(model.embedding.get_weights()[0] - before).max(axis=1) > 0
    assert np.flatnonzero(changed).tolist() == [3, 5, 6, 7]  # Not padding.


def test_two_words_are_swapped_in_every_second_line():
    lines = ["a b c", "a b", "a a", "a a", "one"]
    texts, labels = swap_words(lines, seed=0)
    assert texts == ["a b c", "b a", "a a", "a a", "one"]
    assert labels == [0, 1, 0, 0, 0]


def test_the_baselines_are_those_computed_by_hand():
    bigrams = Bigrams([np.array([5, 6, 3]), np.array([5, 7, 5, 6, 3])], 8)
    bigrams.a, bigrams.b = 1.0, 2.0
    targets = Targets(np.array([5, 7, 2, 6]), np.array([6, 5, 5, 4]))
    unigrams = np.array([2, 3, 3, 0]) / 14 + np.array([1, 1, 1, 1]) / 14  # Six tokens, eight ids.
    np.testing.assert_allclose(bigrams.unigram(targets), unigrams)
    together, lefts = np.array([2, 1, 2, 0]), np.array([3, 1, 2, 0])
    np.testing.assert_allclose(bigrams.bigram(targets), (together + 2 * unigrams) / (lefts + 2))
    assert bigrams.best_unigram(targets).tolist() == [5, 5, 5, 5]
    assert bigrams.best_bigram(targets).tolist() == [6, 5, 5, 5]


def test_the_bigram_probabilities_sum_to_one():
    lines = [np.array([*np.random.default_rng(i).integers(4, 9, size=6), 3]) for i in range(30)]
    bigrams = Bigrams(lines, 9)
    for left in (2, 5, 0):
        targets = Targets(np.full(9, left), np.arange(9))
        assert bigrams.bigram(targets).sum() == pytest.approx(1)
        assert bigrams.unigram(targets).sum() == pytest.approx(1)


def test_the_left_neighbour_is_the_true_piece_even_where_it_is_masked():
    ids = np.array([[90, 90, 6, 3, 0], [5, 6, 90, 3, 0]])
    positions, labels = np.array([[1, 0], [2, 0]]), np.array([[8, 7], [9, 0]])
    left = left_of(ids, positions, labels)
    assert left[labels != 0].tolist() == [7, 2, 6]
