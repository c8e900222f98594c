import contextlib
import dataclasses
import hashlib
import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.engines import SavedModelEngine, load_engine
from ktransformer.errors import InputError
from ktransformer.exporting import export_saved_model, is_saved_model
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from tests.small_translator import TEXTS, strings
from tests.subclasses import SwiGLUTransformer

# Runs with tensorflow and tensorflow_text alone: what a server has.
CLIENT = """
import json, sys
import tensorflow as tf, tensorflow_text
folder, texts = sys.argv[1], json.loads(sys.argv[2])
signatures = tf.saved_model.load(folder).signatures
default = signatures["serving_default"](tf.constant(texts, tf.string))
beam = signatures["beam"](tf.constant(texts, tf.string))
score = signatures["score"](source=tf.constant(texts, tf.string), target=default["text"])
assert not any(name.split(".")[0] == "ktransformer" for name in sys.modules)
print(json.dumps({
    "text": [t.decode() for t in default["text"].numpy()],
    "score": default["score"].numpy().tolist(),
    "beam": [[t.decode() for t in row] for row in beam["text"].numpy()],
    "beam_score": beam["score"].numpy().tolist(),
    "log_probability": score["log_probability"].numpy().tolist(),
    "tokens": score["tokens"].numpy().tolist(),
}))
"""


def in_a_fresh_process(folder, texts: list[str]) -> dict:
    result = subprocess.run(
        [sys.executable, "-c", CLIENT, str(folder), json.dumps(texts)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def served(saved_model) -> dict:
    return in_a_fresh_process(saved_model, TEXTS)


def test_the_saved_model_gives_what_the_keras_model_gives(served, translator):
    expected = translator.translate_texts(tf.constant(TEXTS))
    assert served["text"] == strings(expected["text"])
    np.testing.assert_allclose(served["score"], expected["score"], atol=1e-5)
    assert served["text"][0] == "402"


def test_the_beam_signature_gives_the_n_best(served, translator):
    expected = translator.beam(tf.constant(TEXTS))
    assert served["beam"] == strings(expected["text"])
    assert np.shape(served["beam"]) == (len(TEXTS), 3)
    assert all(row == sorted(row, reverse=True) for row in served["beam_score"])


def test_the_score_of_a_translation_is_the_score_that_the_search_gave(served):
    # The search's score is log-probability / length ** 1. A text that was cut at the limit need
    # not come back as the same tokens, so only translations of whole texts are compared.
    for i in (0, 2, 6):
        ratio = served["log_probability"][i] / served["tokens"][i]
        assert ratio == pytest.approx(served["score"][i], abs=1e-4)


def test_empty_texts_give_empty_texts(served):
    assert (served["text"][1], served["text"][4]) == ("", "")
    assert (served["score"][1], served["score"][4]) == (0.0, 0.0)


@pytest.mark.long
def test_an_empty_batch_gives_an_empty_batch(saved_model):
    assert in_a_fresh_process(saved_model, [])["text"] == []


def test_the_ids_signature_agrees_with_the_text_signature(saved_model, translator):
    signature = tf.saved_model.load(str(saved_model)).signatures["ids"]
    ids = signature(translator.to_ids(tf.constant(TEXTS)))["ids"]
    texts = translator.tokenizer.decode(ids)
    assert strings(texts) == strings(translator.translate_texts(tf.constant(TEXTS))["text"])


@pytest.mark.long
def test_a_subclass_of_the_model_exports(tmp_path):
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    model = SwiGLUTransformer(
        tokenizer.vocabulary_size, num_layers=1, d_model=16, num_heads=2, hidden_dim=16
    )
    model.build()
    translator = Translator(model, tokenizer)
    names = ["serving_default", "beam", "score"]
    folder = export_saved_model(translator, tmp_path / "model", signatures=names)
    texts = ["one two", "three"]
    expected = strings(translator.translate_texts(tf.constant(texts))["text"])
    assert in_a_fresh_process(folder, texts)["text"] == expected


def test_the_folder_of_the_numbered_exports_opens_the_highest(saved_model, tmp_path):
    shutil.copytree(saved_model, tmp_path / "model" / "9")
    shutil.copytree(saved_model, tmp_path / "model" / "10")
    (tmp_path / "model" / "\N{SUPERSCRIPT TWO}").mkdir()
    (tmp_path / "model" / "11").write_text("a file, not an export")
    assert is_saved_model(tmp_path / "model")
    assert SavedModelEngine(tmp_path / "model").path == tmp_path / "model" / "10"


def test_the_description_tells_lengths_decoding_and_labels(translator, tmp_path):
    settings = {"early_stopping": False, "score_forced_end": False, "suppress_unknown": False}
    translator = translator.with_settings(**settings)
    folder = export_saved_model(
        translator, tmp_path / "model", signatures=["serving_default"], source_label="words"
    )
    about = SavedModelEngine(folder).description
    assert about.source_label == "words"
    assert about.decoding == translator.decoding
    assert settings.items() <= dataclasses.asdict(about.decoding).items()
    assert (about.max_source_length, about.max_target_length) == (24, 24)
    assert about.vocabulary_size == translator.tokenizer.vocabulary_size
    assert about.special_ids == {"start": 2, "end": 3, "pad": 0, "suppressed": [0, 2]}


def test_another_folder_is_no_export(tmp_path):
    assert not is_saved_model(tmp_path)
    with pytest.raises(InputError, match="SavedModel"):
        SavedModelEngine(tmp_path)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_a_damaged_export_is_refused(saved_model, tmp_path, name):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"{name}.*damaged"):
        SavedModelEngine(folder)
    with pytest.raises(InputError, match="whole SavedModel"):
        SavedModelEngine(folder, check=False)


FILES = [
    "ktransformer.json",
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets.extra/tf_serving_warmup_requests",
]


def test_an_export_says_the_sha256_of_its_files(saved_model):
    description = json.loads((saved_model / "ktransformer.json").read_text())
    assert description["files"] == {
        name: hashlib.sha256((saved_model / name).read_bytes()).hexdigest() for name in FILES[1:]
    }


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_an_export_is_refused(name, saved_model, tmp_path):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    content, generator = (folder / name).read_bytes(), random.Random(3)
    for _ in range(50):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (folder / name).write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            SavedModelEngine(folder)
        assert "\n" not in str(caught.value)


def without_checksums(folder):
    """Makes the export one of format version 1."""
    fields = json.loads((folder / "ktransformer.json").read_text())
    del fields["files"], fields["sha256"]
    fields["format_version"] = 1
    (folder / "ktransformer.json").write_text(json.dumps(fields))


def test_an_export_without_checksums_still_opens(saved_model, tmp_path):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    without_checksums(folder)
    assert SavedModelEngine(folder).translate(["four zero two"]) == ["402"]


@pytest.mark.long
def test_every_flipped_bit_of_a_graph_without_checksums_is_a_sentence_or_runs(
    saved_model, tmp_path
):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    without_checksums(folder)
    content, generator = (folder / "saved_model.pb").read_bytes(), random.Random(4)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (folder / "saved_model.pb").write_bytes(damaged)
        with contextlib.suppress(InputError):
            SavedModelEngine(folder)


def test_checksums_can_be_left_out(saved_model, tmp_path):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    with (folder / "ktransformer.json").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"ktransformer\.json"):
        load_engine(folder)
    assert load_engine(folder, check=False).translate(["nine"]) == ["9"]
