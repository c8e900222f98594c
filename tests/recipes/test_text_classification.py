"""Captions lose their subject, and a small encoder is fine-tuned to tell it."""

import pytest

import ktransformer
from ktransformer.errors import InputError
from ktransformer.models import TextEncoder
from ktransformer.tasks import TextEmbedder, save
from ktransformer.text import Tokenizer
from tests.run_command import program
from training.text_classification.captions import SUBJECTS, take_out_subjects


def test_the_one_subject_of_a_caption_is_taken_out():
    lines = ["A man in a hat.", "A man and a dog.", "Two Dogs run.", "The DOG runs .", "A house."]
    captions = take_out_subjects(lines)
    assert captions.texts == ["A in a hat.", "The runs ."]
    assert captions.labels == [SUBJECTS.index("man"), SUBJECTS.index("dog")]


def test_a_text_without_subjects_is_refused():
    with pytest.raises(InputError, match="man, woman"):
        take_out_subjects(["A house."])


@pytest.mark.long
def test_the_recipe_fine_tunes_an_encoder(tmp_path):
    lines = [f"a {subject} with a {thing}" for subject in SUBJECTS for thing in ("hat", "ball")]
    tokenizer = Tokenizer.train(lines, vocabulary_size=60)
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 32, "max_length": 32}
    encoder = TextEncoder(tokenizer.vocabulary_size, **sizes)
    save(TextEmbedder(encoder, tokenizer), tmp_path / "encoder")
    (tmp_path / "captions").write_text("\n".join(lines) + "\n")
    files = [word for name in ("text", "validation", "test") for word in (f"--{name}", "captions")]
    done = program(
        "training.text_classification.train",
        tmp_path / "encoder",
        *(tmp_path / word if word == "captions" else word for word in files),
        *("--output", tmp_path / "run", "--examples", 8),
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines()[2:]]
    assert [row[2].strip() for row in rows] == ["most common subject", "published", "random"]
    classified = ktransformer.load(tmp_path / "run").classify(["a with a hat"])
    assert classified["label"].numpy()[0].decode() in SUBJECTS
