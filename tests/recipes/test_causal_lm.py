import argparse
import re

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.tasks import load
from tests.run_command import ROOT, program
from tests.small_models import small_generator
from training.causal_lm.evaluate import comparison, predictions
from training.causal_lm.settings import Settings

SMALL = ["d_model=16", "num_layers=1", "num_heads=2", "hidden_dim=32", "max_length=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a tiny text, and a language model that the recipe made of it."""
    folder = tmp_path_factory.mktemp("causal_lm")
    animals, deeds = ("dogs", "cats", "birds", "horses"), ("run", "sleep", "eat")
    lines = [f"{n} {a} {d} ." for n in ("two", "ten") for a in animals for d in deeds]
    (folder / "text").write_text("\n".join(lines * 8) + "\n", encoding="utf-8")
    paths = ["--text", folder / "text", "--validation", folder / "text", "--output", folder / "run"]
    settings = ["--set", "epochs=2", "vocabulary_size=60", "batch_tokens=256", *SMALL]
    result = program("training.causal_lm.train", *paths, *settings)
    assert result.returncode == 0, result.stderr
    (folder / "table").write_text(result.stdout, encoding="utf-8")
    again = program("training.causal_lm.train", *paths, "--overwrite", *settings)
    assert again.returncode == 0, again.stderr
    return folder


@pytest.mark.long
def test_train_writes_a_folder_and_compares_with_counting(folder):
    generator = load(folder / "run")
    assert generator.model.vocabulary_size == generator.tokenizer.vocabulary_size
    names = [
        line.split("|")[1].strip()
        for line in (folder / "table").read_text(encoding="utf-8").splitlines()
    ]
    assert re.match(r"[\d,]+ tokens", names[0])
    assert names[2:] == ["unigram", "bigram", "causal language model"]


@pytest.mark.long
def test_generate_continues_each_line(folder):
    options = ["--seed", "1", "--top-k", "5", "--max-new-tokens", "4"]
    result = program("training.causal_lm.generate", folder / "run", *options, input="two cats\n\n")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == load(folder / "run").generate(
        ["two cats"], seed=1, top_k=5, max_new_tokens=4
    ) + load(folder / "run").generate([""], seed=1, top_k=5, max_new_tokens=4)


def test_the_losses_of_a_text_are_those_of_the_model_alone():
    generator = small_generator()
    texts = generator.tokenizer.encode_lines(["two five", "one six seven", "four"])
    losses, right = predictions(generator, texts)
    scores = generator.score(["two five", "one six seven", "four"])
    ends = 0.0
    for ids in texts:  # The score of a text counts its end, too.
        inputs = np.array([[generator.tokenizer.special_ids.start, *ids[:-1]]])
        logits = np.asarray(generator.model(inputs))[0, -1].astype("float64")
        ends += logits[ids[-1]] - np.log(np.exp(logits).sum())
    expected = ends - float(sum(scores["log_probability"].numpy()))
    assert losses.sum() == pytest.approx(expected, rel=1e-4)
    assert len(losses) == len(right) == sum(len(ids) - 1 for ids in texts)


def test_a_text_of_long_lines_alone_cannot_be_scored():
    with pytest.raises(InputError, match="max_length=12"):
        comparison(small_generator(), ["one", "two"], ["nine " * 30])


def test_settings_come_from_a_file_and_then_from_the_command_line():
    file = str(ROOT / "training" / "causal_lm" / "multi30k.yaml")
    settings = Settings.from_arguments(argparse.Namespace(config=file, set=["positions=rotary"]))
    assert (settings.epochs, settings.positions) == (8, "rotary")


@pytest.mark.parametrize("change", ["epochs=0", "patience=-1", "seed=-1"])
def test_a_wrong_setting_is_an_input_error(change):
    name, value = change.split("=")
    with pytest.raises(InputError, match=f"{name}.*{value}"):
        Settings.from_arguments(argparse.Namespace(config=None, set=[change]))
