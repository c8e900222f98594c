import dataclasses
import pickle
from typing import get_type_hints

import pytest

from ktransformer.config import (
    CHOICES,
    BatchingConfig,
    CompilationConfig,
    Config,
    DataConfig,
    DecodingConfig,
    ModelConfig,
    SearchConfig,
    TrainingConfig,
    flatten,
    read_settings,
)
from ktransformer.errors import InputError
from ktransformer.layers import positions
from ktransformer.layers.block_config import FEED_FORWARDS, NORMS

FIELDS = [
    (section.name, field.name)
    for section in dataclasses.fields(Config)
    for field in dataclasses.fields(getattr(Config(), section.name))
]
OTHER_VALUES = {
    "optimizer": "muon",
    "schedule": "cosine",
    "subword_alpha": 0.3,
    "num_decoder_layers": 3,
    "guided_layer": 1,
    "alignment_layer": 1,
    "alignment_heads": 2,
    "activation": "gelu",
    "num_kv_heads": 2,
    "norm": "rms",
    "feed_forward": "swiglu",
    "positions": "learned",
    "dtype": "mixed_bfloat16",
    "clip_norm": 1.5,
    "max_repeats": 3,
    "patience": 7,
    "tensorboard": "logs",
    "symbols": ("<x1>", "<x2>"),
    "tags": ("<2de>",),
    "max_source_length": 100,
    "max_target_length": 90,
    "vocabulary_size": 5000,
    "source_vocabulary_size": 3000,
    "batch_tokens": 5000,
    "epochs": 3,
    "learning_rate": 0.01,
    "warmup_steps": 7,
    "average_checkpoints": 2,
    "freeze": ("encoder", "embeddings"),
    "lora_alpha": 16.0,
    "lora_layers": ("encoder",),
    "clean": ("ratio", "digits"),
    "copy": ("tags", "emoji"),
    "target_language": "por",
    "tag": "2de",
}

NEEDED = {"source_vocabulary_size": {"shared_vocabulary": False}}  # By settings that need others.


def other_value(section, name):
    """A value that the field accepts and that is not its default."""
    default = getattr(getattr(Config(), section), name)
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) else default / 2 or 0.25


@pytest.mark.parametrize(
    "name", ["norm", "feed_forward", "positions", "dtype", "optimizer", "schedule"]
)
def test_the_choices_that_help_shows_are_those_that_are_taken(name):
    for choice in CHOICES[name]:
        Config().replace({name: choice})
    with pytest.raises(InputError, match=f"{name} .*{', '.join(CHOICES[name])}"):
        Config().replace({name: "other"})


def test_the_positions_that_help_shows_are_the_layers():
    assert CHOICES["positions"] == positions.NAMES


def test_the_norms_and_networks_that_help_shows_are_the_blocks():
    assert CHOICES["norm"] == tuple(NORMS)
    assert CHOICES["feed_forward"] == tuple(FEED_FORWARDS)


@pytest.mark.parametrize("as_word", [False, True], ids=["value", "word"])
@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_field_can_be_replaced_by_its_name(section, name, as_word):
    value = other_value(section, name)
    default = Config().replace(NEEDED.get(name, {}))
    word = ",".join(value) if isinstance(value, tuple) else str(value)
    changed = default.replace({name: word if as_word else value})
    expected = default.to_dict()
    plain = list(value) if isinstance(value, tuple) else value
    assert expected[section][name] != plain
    expected[section][name] = plain
    assert changed.to_dict() == expected
    assert type(getattr(getattr(changed, section), name)) is type(value)


@pytest.mark.parametrize(
    "section",
    [
        BatchingConfig,
        CompilationConfig,
        Config,
        DataConfig,
        DecodingConfig,
        ModelConfig,
        SearchConfig,
        TrainingConfig,
    ],
)
def test_pickles_of_earlier_versions_find_the_sections(section):
    # In protocol 0: `c`, module, class, `.`.
    assert pickle.loads(f"cktransformer.config.sections\n{section.__name__}\n.".encode()) is section


def test_every_name_is_in_one_section_only():
    names = [name for _, name in FIELDS]
    assert len(names) == len(set(names))


def test_an_unknown_setting_is_an_error_that_lists_the_known_ones():
    with pytest.raises(InputError, match="'kernels'; known are") as error:
        Config().replace({"kernels": 64})
    for _, name in FIELDS:
        assert name in str(error.value)


def test_a_mistyped_setting_is_an_error_that_names_the_nearest_one():
    with pytest.raises(InputError) as caught:
        Config().replace({"epoch": 3})
    assert str(caught.value) == "Unknown setting 'epoch'. Did you mean 'epochs'?"


def test_replace_leaves_the_original_as_it_was():
    config = Config()
    config.replace({"d_model": 64})
    assert config == Config()


def test_several_sections_change_at_once():
    config = Config().replace({"max_length": 5000, "batch_tokens": 6000, "epochs": 3})
    assert (config.model.max_length, config.data.batch_tokens) == (5000, 6000)
    assert config.training.epochs == 3


@pytest.mark.parametrize("word", ["null", "None", "none", None])
@pytest.mark.parametrize(
    "name", ["num_decoder_layers", "clip_norm", "patience", "tensorboard", "epochs", "schedule"]
)
def test_null_unsets_a_field_that_may_be_null(name, word):
    config = Config().replace({name: OTHER_VALUES[name]}).replace({name: word})
    assert config == Config()


@pytest.mark.parametrize("name", ["seed", "dropout", "tie_embeddings"])
def test_null_does_not_fit_another_field(name):
    with pytest.raises(InputError, match=rf"{name} .*None"):
        Config().replace({name: None})


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("False", False), (True, True), (False, False)]
)
def test_a_bool_is_true_or_false_in_any_case(value, expected):
    assert Config().replace({"tie_embeddings": value}).model.tie_embeddings is expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "4294967295", 4294967295),
        ("epochs", 3.0, 3),
        ("learning_rate", "2e-3", 0.002),
    ],
)
def test_a_number_keeps_its_value_and_takes_the_type_of_its_field(name, value, expected):
    changed = Config().replace({name: value})
    (found,) = (s[name] for s in changed.to_dict().values() if name in s)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("seed", 2.5, "int"),
        ("seed", "many", "int"),
        ("seed", "2.5", "int"),
        ("activation", ["relu"], "str"),
        ("tensorboard", True, "str or null"),
        ("seed", True, "int"),
        ("seed", [3], "int"),
        ("seed", "inf", "int"),
        ("seed", "nan", "int"),
        ("dropout", "much", "float"),
        ("dropout", False, "float"),
        ("tie_embeddings", "yes", "bool"),
        ("tie_embeddings", 1, "bool"),
        ("clip_norm", "some", "float or null"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_names_both(name, value, kind):
    with pytest.raises(InputError) as error:
        Config().replace({name: value})
    assert str(error.value) == f"{name} must be of type {kind}; got {value!r}."


@pytest.mark.parametrize(
    ("section", "name", "value", "rule"),
    [
        (ModelConfig, "max_length", 1, "max_length must be at least 2; got max_length=1."),
        (ModelConfig, "dtype", "float8", "dtype must be one of float32, mixed_float16, "),
        (DataConfig, "vocabulary_size", 4, "vocabulary_size must be at least 5; got "),
        (DataConfig, "character_coverage", 0.0, "character_coverage must be in (0, 1]; got "),
        (DataConfig, "character_coverage", 1.1, "character_coverage must be in (0, 1]; got "),
        (DataConfig, "bucket_step", 0, "bucket_step must be at least 1; got bucket_step=0."),
        (TrainingConfig, "epochs", 0, "epochs must be at least 1; got epochs=0."),
        (TrainingConfig, "learning_rate", 0.0, "learning_rate must be above 0; got "),
        (TrainingConfig, "optimizer", "sgd", "optimizer must be one of null, adam, muon; got "),
        (TrainingConfig, "schedule", "linear", "schedule must be one of null, inverse_square_root"),
        (TrainingConfig, "weight_decay", -0.1, "weight_decay must be at least 0; got "),
        (TrainingConfig, "average_checkpoints", 0, "average_checkpoints must be at least 1; got "),
        (TrainingConfig, "warmup_steps", 0, "warmup_steps must be at least 1; got "),
        (TrainingConfig, "learning_rate", float("inf"), "learning_rate must be above 0; got "),
        (TrainingConfig, "label_smoothing", 1.0, "label_smoothing must be in [0, 1); got "),
        (TrainingConfig, "clip_norm", -1.0, "clip_norm must be above 0; got "),
        (TrainingConfig, "patience", -1, "patience must be at least 0; got "),
        (TrainingConfig, "seed", 2**32, "seed must be at most 4294967295; got "),
        (DecodingConfig, "max_length_ratio", float("nan"), "max_length_ratio must be at least 0"),
        (DecodingConfig, "beam_size", 0, "beam_size must be at least 1; got beam_size=0."),
        (DecodingConfig, "beam_size", 99999999999999999999, "beam_size must be at most 1024; got "),
        (DataConfig, "bucket_step", 99999999999, "bucket_step must be at most 1000000; got "),
        (DataConfig, "vocabulary_size", 2**31, "vocabulary_size must be at most 10000000; got "),
        (DecodingConfig, "length_penalty", -0.5, "length_penalty must be at least 0; got "),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_rule(section, name, value, rule):
    with pytest.raises(InputError) as error:
        section(**{name: value})
    assert str(error.value).startswith(rule)
    assert f"{name}={value!r}" in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        field.name
        for section in (ModelConfig, DataConfig, TrainingConfig, DecodingConfig, BatchingConfig)
        for field in dataclasses.fields(section)
        if get_type_hints(section)[field.name] in (int, int | None)
    ],
)
def test_no_integer_setting_takes_a_number_of_any_size(name):
    change = Config().replace if name not in ("max_texts", "threads") else make_batching
    with pytest.raises(InputError, match=rf"{name} .*\d+.*{name}=10{{400}}\."):
        change({name: 10**400})


@pytest.mark.parametrize("value", ["4", 2.5])
@pytest.mark.parametrize(
    ("section", "name"), [(ModelConfig, "d_model"), (DecodingConfig, "beam_size")]
)
def test_an_integer_setting_takes_nothing_else(section, name, value):
    with pytest.raises(InputError) as error:
        section(**{name: value})
    assert str(error.value) == f"{name} must be an integer; got {name}={value!r}."


def make_batching(settings):
    return BatchingConfig(**settings)


def test_a_vocabulary_of_the_source_needs_one_of_each_side():
    with pytest.raises(InputError, match=r"source_vocabulary_size.*shared_vocabulary.*9.*True"):
        Config().replace({"source_vocabulary_size": 9})


def test_batches_must_have_room_for_the_longest_pair():
    with pytest.raises(InputError, match=r"batch_tokens=100, max_length=256"):
        Config().replace({"batch_tokens": 100})


def test_a_dictionary_gives_the_configuration_back():
    config = Config().replace({name: other_value(section, name) for section, name in FIELDS})
    assert Config.from_dict(config.to_dict()) == config


def test_what_a_dictionary_lacks_has_its_default():
    assert Config.from_dict({"model": {"d_model": 64}}) == Config().replace({"d_model": 64})


def test_sections_and_plain_settings_flatten_together():
    nested = {"model": {"d_model": 64}, "training": None, "epochs": 5}
    assert flatten(nested) == {"d_model": 64, "epochs": 5}


def test_an_unknown_section_is_an_error_that_lists_the_known_ones():
    with pytest.raises(InputError, match=r"'modle'.*model, data, training, decoding"):
        flatten({"modle": {"d_model": 64}})


def test_a_section_that_holds_a_value_is_an_error():
    with pytest.raises(InputError, match=r"'model'.*3"):
        flatten({"model": 3})


@pytest.mark.parametrize(
    "content",
    [
        "model:\n  d_model: 64\n  tie_embeddings: false\ntraining:\n  clip_norm: null\n",
        "d_model: 64\ntie_embeddings: false\nclip_norm: null\n",
        "model: {d_model: 64}\ntie_embeddings: false\ntraining: {clip_norm: null}\ndata:\n",
    ],
    ids=["sections", "flat", "mixed"],
)
def test_a_yaml_file_may_have_sections_or_not(tmp_path, content):
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    settings = read_settings(file)
    assert settings == {"d_model": 64, "tie_embeddings": False, "clip_norm": None}
    assert Config().replace(settings).model.d_model == 64


def test_a_number_that_yaml_reads_as_a_string_is_still_a_number(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("learning_rate: 2e-3\n")  # YAML 1.1 wants 2.0e-3.
    assert Config().replace(read_settings(file)).training.learning_rate == 0.002


def test_no_positions_is_a_word_and_not_null(tmp_path):
    (tmp_path / "settings.yaml").write_text("positions: none\n", encoding="utf-8")
    settings = read_settings(tmp_path / "settings.yaml")
    assert Config().replace(settings).model.positions == "none"


def test_an_empty_yaml_file_changes_nothing(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("# Nothing yet.\n")
    assert read_settings(file) == {}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"- d_model\n", "must hold settings"),
        (b"d_model\n", "must hold settings"),
        (b"d_model: [64\n", "is not valid YAML"),
        (b"d_model: \xff\n", "is not valid YAML"),
    ],
    ids=["a list", "a word", "an open bracket", "not UTF-8"],
)
def test_a_file_that_holds_no_settings_is_an_input_error_in_one_line(tmp_path, content, rule):
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"{file} {rule}") as error:
        read_settings(file)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path}/none.yaml.*No such file"):
        read_settings(tmp_path / "none.yaml")


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.d_model = 64


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (BOMB, "aliases make more than 10000 values"),
        ("model: &m [*m]", "aliases make more than 10000 values"),
        ("model: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("epochs: 2026-13-45", r"is not valid YAML: month must be in 1\.\.12"),
        ("epochs: 2026-11-28", "epochs must be of type int"),
        ("epochs: 0x" + "f" * 9000, "epochs must be .*; got epochs=an integer of 36000 bits"),
        (f"epochs: {'9' * 9000}", "is not valid YAML"),
        ("epochs: [" + "1," * 9000 + "]", r"got \[1, 1, 1, 1, 1, 1, \.\.\.\]"),
        ("#" * (1 << 20) + "\nepochs: 1", "larger than 1048576 bytes"),
    ],
    ids=["bomb", "cycle", "deep", "no date", "date", "hex", "digits", "list", "large"],
)
def test_a_hostile_file_is_an_error_of_one_short_line(content, rule, tmp_path):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(InputError, match=rule) as caught:
        Config().replace(read_settings(tmp_path / "c.yaml"))
    assert len(str(caught.value)) < 2000
    assert "\n" not in str(caught.value)


def test_a_few_aliases_are_taken(tmp_path):
    (tmp_path / "c.yaml").write_text("epochs: &n 7\npatience: *n\n")
    assert read_settings(tmp_path / "c.yaml") == {"epochs": 7, "patience": 7}
