"""Trainings on several corpora, each with a weight and a tag."""

import json
import signal
import time

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.engines import LiteEngine, load_engine
from ktransformer.errors import InputError
from ktransformer.fitting.mixture import Corpus, Mixture, open_corpora, read_mixture
from ktransformer.fitting.start import FromRun
from ktransformer.fitting.training import train
from ktransformer.saving.run import load_run
from ktransformer.text import ParallelFiles, ParallelText, open_parallel
from ktransformer.text.cleaning import Cleaning
from tests.fitting.small_training import TEXT, assert_same, small, start
from tests.run_command import command, refusal
from tests.small_run import TRAINING_SETTINGS, number_pairs, write_pairs

DATA = """
- source: {folder}/words.source
  target: {folder}/words.target
  tag: <digits>
- source: [{folder}/words.target]
  target: [{folder}/words.source]
  tag: <words>
  validation_source: {folder}/few.target
  validation_target: {folder}/few.source
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Number words and digits, and a file that lists both directions."""
    folder = tmp_path_factory.mktemp("mixture")
    write_pairs(folder, "words", number_pairs(600, seed=5))
    write_pairs(folder, "few", number_pairs(20, seed=6))
    (folder / "data.yaml").write_text(DATA.format(folder=folder))
    return folder


def arguments(folder, output, *more):
    settings = [word for setting in TRAINING_SETTINGS for word in ("--set", setting)]
    return ["train", "--data", folder / "data.yaml", "--output", output, *settings, *more]


@pytest.fixture(scope="module")
def both(folder):
    """A run that was trained for a moment on both directions."""
    few = ("--set", "epochs=1", "--set", "bleu_sentences=5")
    assert main([*map(str, arguments(folder, folder / "both", *few))]) == 0
    return folder / "both"


def write(folder, text):
    path = folder / "other.yaml"
    path.write_text(text)
    return path


def test_the_tags_become_symbols_that_begin_every_source(folder, both):
    run = load_run(both)
    assert run.tokenizer.tags == run.config.data.tags == ("<digits>", "<words>")
    corpora = read_mixture(folder / "data.yaml")
    mixture, validation = open_corpora(corpora, max_pairs=1000)
    words, digits = mixture.texts
    assert words.sources[0] == f"<digits> {digits.targets[0]}"
    assert digits.sources[0] == f"<words> {words.targets[0]}"
    assert mixture.weights is None
    assert all(source.startswith("<words> ") for source in validation.sources)
    ids = run.tokenizer.encode_lines([words.sources[0]])[0]
    assert ids[0] == run.tokenizer.symbols["<digits>"]
    assert "val_perplexity" in run.history


def test_texts_of_validation_alternate_between_the_corpora(tmp_path):
    write_pairs(tmp_path, "a", [("a1", "1"), ("a2", "2"), ("a3", "3")])
    write_pairs(tmp_path, "b", [("b1", "4")])
    sides = [((f"{tmp_path}/{n}.source",), (f"{tmp_path}/{n}.target",)) for n in "ab"]
    pairs = zip(sides, (None, "<b>"), strict=True)
    corpora = [Corpus(*each, *each, tag=tag) for each, tag in pairs]
    _, validation = open_corpora(corpora, max_pairs=10)
    assert validation.sources == ["a1", "<b> b1", "a2", "a3"]
    assert validation.targets == ["1", "4", "2", "3"]


def test_cleaning_does_not_see_the_tags(tmp_path):
    lines = [f"{letter}\t{letter.upper()}{letter}" for letter in "abcdefgh"]
    (tmp_path / "pairs.tsv").write_text("\n".join([*lines, "same words\tSame words"]) + "\n")
    for max_pairs in (5, 50):  # In files, and in memory.
        (text,) = open_corpora(
            [Corpus(pairs=(f"{tmp_path}/pairs.tsv",), tag="<bt>")], max_pairs=max_pairs
        )[0].texts
        cleaned = text.cleaned(Cleaning(("identical",)))
        if isinstance(cleaned, ParallelFiles):
            (cleaned,) = cleaned.blocks(None)
        assert cleaned.sources == [f"<bt> {letter}" for letter in "abcdefgh"]


def test_text_that_stays_in_files_is_tagged_too(folder):
    paths = folder / "few.source", folder / "few.target"
    files = open_parallel(*paths, max_pairs=5, tag="<x>")
    assert isinstance(files, ParallelFiles)
    (block,) = files.blocks(None)
    assert block.sources[0] == f"<x> {number_pairs(20, seed=6)[0][0]}"


@pytest.mark.long
def test_text_to_mix_in_is_a_mixture_of_two(tmp_path):
    other = ParallelText(["one", "two two"] * 8, ["1", "2 2"] * 8, empty=0)
    runs = [
        train(small(mix_share=0.25), text, checkpoints=tmp_path / name, mix=mix)
        for name, text, mix in (
            ("mix", TEXT, other),
            ("mixture", Mixture([TEXT, other], [0.75, 0.25]), None),
        )
    ]
    assert_same(*(run.model.get_weights() for run in runs))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: 1", "list of corpora"),
        ("- 3", "corpus 1.*key: value.*3"),
        ("- {source: a, target: b, wieght: 1}", "'wieght'.*weight"),
        ("- {source: a}", "corpus 1.*target"),
        ("- {source: a, target: b, pairs: c}", "corpus 1.*pairs"),
        ("- {source: a, target: b, weight: 0}", "weight.*above 0.*0"),
        ("- {source: a, target: b, weight: -1}", "weight.*above 0.*-1"),
        ("- {source: a, target: b, weight: x}", "weight.*number.*'x'"),
        ("- {source: a, target: b, tag: <a b>}", "tag.*white space.*<a b>"),
        ("- {source: a, target: b, tag: 3}", "tag.*3"),
        ("- {source: [1], target: b}", "source.*file"),
        ("- {source: a, target: b, validation_source: c}", "validation_source"),
        ("- {source: a, target: b, weight: 1}\n- {source: a, target: b}", "weight.*1 of 2"),
        ("- {source: missing.en, target: b}", "missing.en"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(text, rule, tmp_path, capsys):
    line = ("train", "--data", write(tmp_path, text), "--output", tmp_path / "run")
    message = refusal(capsys, *line)
    with pytest.raises(InputError, match=rule):
        raise InputError(message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--source", "--validation-source", "--mix-source"])
def test_files_beside_a_list_are_refused(folder, option, tmp_path, capsys):
    files = [option, folder / "few.source"]
    files += [option.replace("source", "target"), folder / "few.target"]
    message = refusal(capsys, *arguments(folder, tmp_path / "run"), *files)
    assert option in message
    assert "--data" in message


def test_a_training_needs_a_text_or_a_list(tmp_path, capsys):
    message = refusal(capsys, "train", "--output", tmp_path / "run")
    assert "--source" in message
    assert "--data" in message


def test_a_run_without_a_tag_is_not_tuned_with_it(folder, run_folder, tmp_path, capsys):
    line = ("train", "--data", folder / "data.yaml", "--from", run_folder)
    message = refusal(capsys, *line, "--output", tmp_path / "run")
    assert "'<digits>'" in message
    assert "extend" in message


def test_a_tag_goes_before_every_text_that_is_not_empty(both):
    engine = load_engine(both, beam_size=1)
    texts = ["one two", "", " ", "nine"]
    tagged = [f"<digits> {text}" if text.strip() else "" for text in texts]
    expected = engine.translate_n_best(tagged)
    assert [each.scores for each in expected[1:3]] == [[0], [0]]
    assert engine.translate_n_best(texts, tag="digits") == expected
    assert engine.translate_n_best(texts, tag="<digits>") == expected
    fixed = load_engine(both, beam_size=1, tag="digits")
    assert fixed.translate_n_best(texts) == expected
    assert engine.translate_n_best(texts, tag="words") != expected


def test_an_engine_that_is_fixed_to_a_tag_takes_no_other(both):
    engine = load_engine(both, beam_size=1, tag="digits")
    assert engine.description.decoding.tag == "digits"
    texts = ["one two", "nine"]
    same = engine.translate_n_best(texts, tag="<digits>")
    assert same == engine.translate_n_best(texts)
    with pytest.raises(InputError, match=r"tag.*digits.*'words'"):
        engine.translate(texts, tag="words")


def test_a_tag_that_the_model_does_not_have_is_refused(both, run_folder, capsys):
    message = refusal(capsys, "translate", both, "--tag", "2fr")
    assert "<digits>, <words>" in message
    assert "'2fr'" in message
    assert "'2fr'" in refusal(capsys, "translate", run_folder, "--tag", "2fr")
    with pytest.raises(InputError, match=r"tag.*<digits>, <words>.*'x'"):
        load_engine(both).translate(["one"], tag="x")


def test_the_tag_is_the_first_token_and_counts_in_the_limit(both):
    translator = load_engine(both, tag="words", beam_size=1).translator
    ids = translator.to_ids(["1 2", "1 " * 40]).numpy()
    plain = load_engine(both, beam_size=1).translator.to_ids(["<words> 1 2", "1 " * 40]).numpy()
    assert ids[:, 0].tolist() == [translator.tokenizer.symbols["<words>"]] * 2
    np.testing.assert_array_equal(ids[0], plain[0])
    assert ids.shape == plain.shape


@pytest.mark.long
def test_one_model_learns_both_directions_and_a_lite_file_takes_its_tag(folder, tmp_path, capsys):
    line = arguments(folder, tmp_path / "run", "--set", "epochs=25", "--set", "bleu_sentences=0")
    assert main([*map(str, line)]) == 0
    engine = load_engine(tmp_path / "run", beam_size=1)
    words, digits = map(list, zip(*number_pairs(40, seed=9), strict=True))
    for texts, tag, expected in ((words, "digits", digits), (digits, "words", words)):
        found = engine.translate(texts, tag=tag)
        right = sum(each == wanted for each, wanted in zip(found, expected, strict=True))
        assert right > len(texts) / 2
    file = tmp_path / "words.tflite"
    export = ("export", tmp_path / "run", "--format", "tflite", "--beam-size", 1, "--tag", "words")
    export += ("--signatures", "serving_default", "--output", file)
    assert main([*map(str, export)]) == 0
    lite = LiteEngine(file)
    assert lite.translate([*digits, ""]) == [*engine.translate(digits, tag="words"), ""]
    with pytest.raises(InputError, match=r"tag.*words.*'digits'"):
        lite.translate(["four"], tag="digits")
    capsys.readouterr()
    files = ("--source", folder / "few.target", "--reference", folder / "few.source")
    assert main([*map(str, ("evaluate", file, *files, "--tag", "words"))]) == 0
    assert json.loads(capsys.readouterr().out)["exact_match"] > 0.5


@pytest.mark.long
def test_a_killed_training_on_a_mixture_ends_as_if_it_had_not_been(folder, tmp_path):
    weighted = DATA.format(folder=folder).replace("  tag:", "  weight: 0.7\n  tag:", 1)
    weighted = weighted.replace("  tag: <words>", "  weight: 0.3\n  tag: <words>")
    (tmp_path / "data.yaml").write_text(weighted)
    settings = ("epochs=6", "checkpoint_minutes=0", "bleu_sentences=0", "dropout=0.2")
    more = [word for setting in settings for word in ("--set", setting)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command(*arguments(tmp_path, whole, *more)).returncode == 0
    line = [*map(str, arguments(tmp_path, killed, *more, "--resume"))]
    for pause in (0.0, 0.3):
        process = start(line, tmp_path / "killed.checkpoints" / "training.npz")
        time.sleep(pause)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    other = write(tmp_path, weighted.replace("0.7", "0.6"))
    refused = command(*(other if word == str(tmp_path / "data.yaml") else word for word in line))
    assert refused.returncode == 2
    assert b"other weights" in refused.stderr
    result = command(*line)
    assert result.returncode == 0, result.stderr.decode()
    assert b"Going on after update" in result.stderr
    first, second = load_run(whole), load_run(killed)
    assert_same(first.model.get_weights(), second.model.get_weights())
    assert first.history == second.history


@pytest.mark.long
def test_a_run_with_tags_is_tuned_on_other_corpora_with_them(folder, both, tmp_path):
    run = load_run(both)
    sides = (f"{folder}/few.source",), (f"{folder}/few.target",)
    mixture, _ = open_corpora([Corpus(*sides, tag="<digits>")], max_pairs=100)
    beginning = FromRun(run)
    config = beginning.default_config().replace({"epochs": 1, "bleu_sentences": 0})
    tuned = train(config, mixture, checkpoints=tmp_path / "tuned", start=beginning)
    assert tuned.tokenizer.symbols == run.tokenizer.symbols
    assert tuned.config.data.tags == ("<digits>", "<words>")
