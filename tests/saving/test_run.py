"""Runs' folders: what damaged, crafted and older ones come to."""

import dataclasses
import hashlib
import json
import random
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.files.checksums import is_sealed
from ktransformer.models import TextEncoder, Transformer
from ktransformer.models.lora import LoraOptions
from ktransformer.saving.adapter import Adapter, load_adapter, save_adapter
from ktransformer.saving.array_file import read_arrays, write_arrays
from ktransformer.saving.keras_file import describe_model, load_model
from ktransformer.saving.run import Run, load_run, make_model, save_run
from ktransformer.text import Tokenizer
from tests.small_run import WORDS, number_pairs

SETTINGS = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 16, "max_length": 16}
FILES = ("model.json", "tokenizer.model", "model.keras")


def small_run(words=WORDS) -> Run:
    config = Config().replace(SETTINGS)
    lines = [" ".join(words[int(digit)] for digit in text) for _, text in number_pairs(200, 1)]
    tokenizer = Tokenizer.train(lines, vocabulary_size=30)
    model = make_model(config, tokenizer.vocabulary_size)
    return Run(config, tokenizer, model, {"loss": [2.0, float("nan")]})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_run(small_run(), folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def old(folder):
    """A copy as version 1 wrote it, without checksums: one may craft anything in it."""
    fields = json.loads((folder / "model.json").read_text())
    (folder / "model.json").unlink()
    del fields["files"], fields["sha256"], fields["kind"]
    fields |= {"format_version": 1, "vocabulary_size": 30}
    (folder / "run.json").write_text(json.dumps(fields))
    return folder


def edit_model(folder, change=lambda fields: None, weights=lambda file: None, **members):
    """Rewrites `model.keras`, with another configuration, weights or members."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    fields = json.loads(content["config.json"])
    change(fields)
    content["config.json"] = json.dumps(fields).encode()
    (folder / "weights.h5").write_bytes(content["model.weights.h5"])
    with h5py.File(folder / "weights.h5", "a") as file:
        weights(file)
    content["model.weights.h5"] = (folder / "weights.h5").read_bytes()
    content |= {name.replace("_json", ".json"): value for name, value in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def refused(folder) -> str:
    with pytest.raises(InputError) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_says_the_sha256_of_its_files_and_of_itself(whole):
    description = json.loads((whole / "model.json").read_text())
    assert description["files"] == {
        name: hashlib.sha256((whole / name).read_bytes()).hexdigest() for name in FILES[1:]
    }
    content = (whole / "model.json").read_bytes()
    blank = content.replace(description["sha256"].encode(), b"0" * 64)
    assert description["sha256"] == hashlib.sha256(blank).hexdigest()
    assert is_sealed(content)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_a_run_is_refused(name, folder):
    content, generator = (folder / name).read_bytes(), random.Random(1)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (folder / name).write_bytes(damaged)
        refused(folder)


def test_the_tokenizer_of_another_run_of_the_same_size_is_refused(folder, whole):
    other = small_run(words=WORDS[::-1]).tokenizer
    assert other.vocabulary_size == Tokenizer.load(whole / "tokenizer.model").vocabulary_size
    other.save(folder / "tokenizer.model")
    assert "tokenizer.model" in refused(folder)
    load_run(folder, check=False)


def test_a_run_without_checksums_still_loads(old, whole):
    first, second = load_run(old), load_run(whole)
    assert first.config == second.config
    for one, other in zip(first.model.weights, second.model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loaded_weights_are_those_that_keras_loads(whole):
    expected = keras.saving.load_model(whole / "model.keras", compile=False)
    for one, other in zip(load_run(whole).model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_of_a_newer_version_says_so(folder):
    fields = json.loads((folder / "model.json").read_text())
    fields |= {"format_version": 4, "ktransformer": "9.9"}
    (folder / "model.json").write_text(json.dumps(fields))
    assert "9.9" in refused(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format_version", "2"),
        ("format_version", True),
        ("format_version", None),
        ("config", []),
        ("config", {"model": {"d_model": {}}}),
        ("config", {"model": {"d_model": "wide"}}),
        ("history", [1]),
        ("history", {"loss": 2}),
        ("history", {"loss": ["low"]}),
        ("ktransformer", 1),
    ],
)
def test_a_value_of_another_type_is_damage(name, value, old):
    fields = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**fields, name: value}))
    refused(old)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config":' * 100_000, "1" * 5000, "\udcff"])
def test_text_that_is_not_a_description_is_damage(text, old):
    (old / "run.json").write_text(text, errors="surrogateescape")
    refused(old)


def test_a_configuration_that_is_nested_too_deep_is_refused(old):
    edit_model(old, config_json=b'{"config":' * 100_000)
    assert "nested too deep" in refused(old)


SIZES = ["num_layers", "num_decoder_layers", "d_model", "hidden_dim", "max_length"]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [100_000, 1_000_000_000, 10**30])
def test_sizes_that_the_weights_do_not_fill_are_refused_before_anything_is_built(
    name, size, old, monkeypatch
):
    def build(*arguments, **options):
        raise AssertionError("Nothing may be built.")

    size *= 16 if name == "max_length" else 2
    more = {"batch_tokens": size} if name == "max_length" else {}
    edit_run = {"model": {**SETTINGS, "num_decoder_layers": 1, name: size}, "data": more}
    fields = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**fields, "config": edit_run}))
    edit_model(old, lambda fields: fields["config"].update({name: size}))
    monkeypatch.setattr(Transformer, "__init__", build)
    assert f"{name}=" in refused(old)


def test_a_source_vocabulary_that_the_weights_do_not_fill_is_refused(old):
    edit_model(old, lambda fields: fields["config"].update(source_vocabulary_size=10**9))
    with pytest.raises(InputError, match=r"source_vocabulary_size=1e\+09"):
        load_model(old / "model.keras")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("norm_first", True),
        ("norm_first", 0),
        ("scale_embeddings", False),
        ("activation", "gelu"),
        ("pad_id", 5),
        ("positions", "sinusoidal_interleaved"),
        ("num_heads", 4),
        ("dtype", "mixed_float16"),
        ("vocabulary_size", 29),
        ("source_vocabulary_size", 29),
    ],
)
def test_a_model_that_is_not_the_one_of_its_run_is_refused(name, value, old):
    edit_model(old, lambda fields: fields["config"].update({name: value}))
    assert f"{name}={value!r}" in refused(old)


def test_a_model_that_is_not_the_one_of_its_run_is_not_written(tmp_path):
    run = small_run()
    other = dataclasses.replace(run, config=Config().replace({**SETTINGS, "norm_first": True}))
    with pytest.raises(InputError, match="norm_first"):
        save_run(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_a_build_record_the_weights_are_the_files_all_the_same(old, whole):
    edit_model(old, lambda fields: fields.pop("build_config"))
    for one, other in zip(load_run(old).model.weights, load_run(whole).model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


QUERY = "decoder/blocks/decoder_block/cross_attention/query_projection/vars"


@pytest.mark.parametrize("part", [QUERY, f"{QUERY}/1", "encoder", "layers"])
def test_a_missing_weight_is_refused(part, old):
    edit_model(old, weights=lambda file: file.__delitem__(part))
    refused(old)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused(value, old):
    edit_model(old, weights=lambda file: file[f"{QUERY}/1"].__setitem__(3, value))
    assert f"{QUERY}/1" in refused(old)


@pytest.mark.parametrize("link", [h5py.SoftLink("/encoder"), h5py.ExternalLink("x.h5", "/")])
def test_a_weights_file_with_links_is_refused(link, old):
    edit_model(old, weights=lambda file: file.__setitem__("other", link))
    assert "link" in refused(old)


def test_types_that_the_weights_do_not_fill_are_refused_before_anything_is_built(
    tmp_path, monkeypatch
):
    def build(*arguments, **options):
        raise AssertionError("Nothing may be built.")

    model = TextEncoder(30, type_vocabulary_size=2, **SETTINGS)
    model.build()
    model.save(tmp_path / "model.keras")
    edit_model(tmp_path, lambda fields: fields["config"].update(type_vocabulary_size=10**9))
    monkeypatch.setattr(TextEncoder, "__init__", build)
    with pytest.raises(InputError, match=r"type_vocabulary_size=1e\+09"):
        load_model(tmp_path / "model.keras")


def test_damage_within_the_weights_is_described_in_one_sentence(folder):
    path, generator = folder / "model.keras", random.Random(1)
    with zipfile.ZipFile(path) as archive:
        config, weights = (archive.read(name) for name in ("config.json", "model.weights.h5"))
    refusals = 0
    for _ in range(300):
        damaged = bytearray(weights)
        damaged[generator.randrange(4000)] = generator.randrange(256)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", bytes(damaged))
        try:
            describe_model(path)
        except InputError:
            refusals += 1
    assert refusals


def test_the_card_of_a_run_whose_count_is_null_is_written(old, tmp_path):
    fields = json.loads((old / "run.json").read_text())
    fields["history"] = {"dropped_ratio": [None]}
    (old / "run.json").write_text(json.dumps(fields))
    save_run(load_run(old), tmp_path / "again")
    assert "cleaning" not in (tmp_path / "again" / "card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 10**400),
        ("alpha", float("nan")),
        ("alpha", "1"),
        ("layers", "encoder"),
        ("frozen", {"encoder": 1}),
    ],
)
def test_an_adapter_with_a_wrong_field_is_refused(name, value, tmp_path):
    path, matrix = tmp_path / "adapter.npz", np.ones((2, 2), "float32")
    save_adapter(Adapter("0" * 64, LoraOptions(2, 1.0), [matrix, matrix]), path)
    head, *matrices = read_arrays(path, "an adapter")
    text = json.dumps({**json.loads(head.tobytes()), name: value})
    write_arrays(path, [np.frombuffer(text.encode(), "uint8"), *matrices])
    with pytest.raises(InputError, match="is not a LoRA adapter"):
        load_adapter(path)


def test_an_encrypted_file_of_arrays_is_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    write_arrays(path, [np.ones(3)])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\3\4") + 6] |= 1  # The flag of encryption, which is there twice.
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a file of arrays"):
        read_arrays(path, "a file of arrays")


def test_an_array_of_which_little_is_stored_is_refused(old):
    def declare(file):
        file.create_dataset("other/vars/0", shape=(1 << 40,), dtype="f4", chunks=(1 << 20,))

    edit_model(old, weights=declare)
    assert "arrays would have 43980" in refused(old)


def test_a_member_that_expands_is_not_read(old):
    with zipfile.ZipFile(old / "model.keras") as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(old / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", bytes(1 << 26))
    assert f"{1 << 26} bytes" in refused(old)


@pytest.mark.parametrize("kind", [keras.layers.Dense(3), keras.Sequential([keras.Input((2,))])])
def test_another_model_is_no_run(kind, old):
    described = keras.saving.serialize_keras_object(kind)
    edit_model(old, config_json=json.dumps(described).encode())
    refused(old)


@keras.saving.register_keras_serializable(package="tests")
class SharedBlock(Transformer):
    """Has one encoder block in all places, and layers in lists and dictionaries."""

    def _make_layers(self):
        super()._make_layers()
        self.more = [[keras.layers.Dense(2)], {"last": keras.layers.Dense(3)}]

    def make_encoder_block(self):
        if not hasattr(self, "the_block"):
            self.the_block = super().make_encoder_block()
        return self.the_block

    def build(self, input_shape=None):
        super().build(input_shape)
        for layer in (self.more[0][0], self.more[1]["last"]):
            layer.build((None, 4))


def test_a_registered_subclass_loads(tmp_path):
    run = small_run()
    config = Config().replace({**SETTINGS, "num_layers": 6, "num_decoder_layers": 1})
    model = SharedBlock(
        run.tokenizer.vocabulary_size, **{**SETTINGS, "num_layers": 6, "num_decoder_layers": 1}
    )
    model.build()
    save_run(Run(config, run.tokenizer, model, {}), tmp_path / "run")
    loaded = load_run(tmp_path / "run").model
    assert type(loaded) is SharedBlock
    assert len(loaded.encoder.blocks) == 6
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_metric_that_is_not_finite_is_null_in_the_description(whole):
    def fail(constant):
        pytest.fail(f"{constant} is no JSON")

    described = json.loads((whole / "model.json").read_text(), parse_constant=fail)
    assert described["history"] == {"loss": [2.0, None]}
    assert load_run(whole).history == {"loss": [2.0, None]}


@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_a_model_that_is_not_built_or_not_finite_is_not_written(value, tmp_path):
    run = small_run()
    model = Transformer(run.tokenizer.vocabulary_size, **SETTINGS)
    if value is not None:
        model = run.model
        model.weights[3].assign(np.full(model.weights[3].shape, value))
    with pytest.raises(InputError, match="not built" if value is None else "NaN"):
        save_run(dataclasses.replace(run, model=model), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Points:
    """Wraps a function so that its call number `at` raises."""

    def __init__(self, monkeypatch, owner, name):
        self.calls, self.at, self.error = 0, None, None
        original = getattr(owner, name)

        def call(*arguments, **options):
            self.calls += 1
            if self.calls == self.at:
                raise self.error
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    def arm(self, at, error):
        self.calls, self.at, self.error = 0, at, error


def test_the_settings_of_blocks_reach_the_model_and_come_back(tmp_path):
    settings = {"norm": "rms", "feed_forward": "swiglu", "norm_first": True, "num_kv_heads": 1}
    settings["positions"] = "rotary"
    run = dataclasses.replace(small_run(), config=Config().replace({**SETTINGS, **settings}))
    run = dataclasses.replace(run, model=make_model(run.config, run.tokenizer.vocabulary_size))
    save_run(run, tmp_path / "run")
    model = load_run(tmp_path / "run").model
    block = model.decoder.blocks[0]
    assert {name: getattr(block.block_config, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("owner", "name", "least"),
    [
        (h5py.Dataset, "__getitem__", 30),
        (h5py.Group, "__getitem__", 90),
        (keras.Variable, "assign", 30),
        (keras.layers.Layer, "add_weight", 30),
        (keras.layers.Layer, "__init__", 30),
        (zipfile.ZipFile, "read", 2),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("tried", [2, pytest.param(1000, marks=pytest.mark.long)])
def test_an_interrupt_and_lack_of_memory_are_not_taken_for_damage(
    owner, name, least, error, tried, whole, monkeypatch
):
    points = Points(monkeypatch, owner, name)
    load_run(whole)
    total = points.calls
    assert total >= least
    for at in range(1, total + 1, max(total // tried, 1)):
        points.arm(at, error())
        with pytest.raises(error):
            load_run(whole)


@pytest.mark.parametrize(
    ("error", "status", "word"), [(KeyboardInterrupt, 130, "Interrupted"), (MemoryError, 2, "mem")]
)
def test_the_command_ends_with_the_status_of_what_stopped_it(
    error, status, word, whole, monkeypatch, capfd
):
    points = Points(monkeypatch, h5py.Dataset, "__getitem__")
    points.arm(5, error("5 GiB"))
    assert main(["prune", str(whole), "--corpus", __file__, "--output", "x"]) == status
    assert word in capfd.readouterr().err.splitlines()[-1]
