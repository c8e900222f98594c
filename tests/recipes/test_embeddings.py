"""The recipe of sentence embeddings: its lines, its measures, and MiniLM where it is there."""

import os

import numpy as np
import pytest

from ktransformer.conversion import import_published
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from training.embeddings.compare import agreement, embed, nearest
from training.embeddings.lines import write
from training.embeddings.sentences import PHRASES, sentences

FOLDER = "KTRANSFORMER_MINILM"
TEXTS = ["Two dogs are running.", "The quick brown fox jumps over the lazy dog."]


def test_there_are_64_different_sentences_of_each_language():
    assert len({*sentences()}) == len(sentences()) == 64 * len(PHRASES)


def test_the_lines_come_in_equal_shares_from_the_files(tmp_path):
    for name in "ab":
        lines = [f"{name} {i}" for i in range(20)]
        (tmp_path / name).write_text("\n".join(["", *lines]))
    made, files = tmp_path / "lines", [str(tmp_path / name) for name in "ab"]
    write(files, str(made), 64 * len(PHRASES) + 9)
    found = made.read_text(encoding="utf-8").splitlines()
    assert found[-9:] == [*(f"a {i}" for i in range(4)), *(f"b {i}" for i in range(5))]
    with pytest.raises(InputError, match=r"a must have 21 .*20"):
        write(files, str(made), 64 * len(PHRASES) + 42)


def test_rankings_and_cosines_are_compared():
    reference = np.eye(13, dtype="float32")[:12]
    reference[1] = [0.8, 0.6, *[0] * 11]
    other = reference.copy()
    other[[0, 2]] = other[[2, 0]]
    assert nearest(reference)[0, 0] == 1
    same, swapped = agreement(reference, reference), agreement(other, reference)
    assert same == (0, pytest.approx(1), pytest.approx(1), 1, 1)
    assert swapped.difference == 1
    assert swapped.mean_cosine == pytest.approx(10 / 12)
    assert swapped.least_cosine == 0
    assert swapped.same_best < 1


@pytest.mark.long
@pytest.mark.skipif(FOLDER not in os.environ, reason=f"{FOLDER} names the folder of MiniLM")
def test_minilm_gives_the_vectors_of_sentence_transformers(tmp_path):
    task = import_published(os.environ[FOLDER]).task
    first = [[-0.0076277, 0.0063112, 0.0309320], [0.0439336, 0.0589344, 0.0481784]]
    for export in (export_saved_model, export_lite):
        vectors = embed(export(task, tmp_path / export.__name__), TEXTS)
        np.testing.assert_allclose(vectors[:, :3], first, atol=1e-6)
        assert vectors[0] @ vectors[1] == pytest.approx(0.3451627, abs=1e-6)
