import json

import pytest

from ktransformer.errors import InputError
from ktransformer.tasks import TranslatorDescription


@pytest.fixture
def description(translator):
    return translator.describe(("ids",), source_label="Wörter")


def test_a_description_survives_json(description):
    assert (
        TranslatorDescription.from_json(description.to_json(), "x").to_json()
        == description.to_json()
    )
    assert "Wörter" in description.to_json()


@pytest.mark.parametrize("text", ["", "{}", "[]", "no json", '{"kind": "translator"}'])
def test_other_text_is_no_description(text):
    with pytest.raises(InputError, match=r"x .*damaged"):
        TranslatorDescription.from_json(text, "x")


def test_a_description_that_lacks_a_field_is_damaged(description):
    fields = json.loads(description.to_json())
    del fields["vocabulary_size"]
    with pytest.raises(InputError, match="damaged"):
        TranslatorDescription.from_json(json.dumps(fields), "x")


def test_another_kind_of_model_is_named(description):
    text = json.dumps({**json.loads(description.to_json()), "kind": "classifier"})
    with pytest.raises(InputError, match=r"x .*classifier.*translator"):
        TranslatorDescription.from_json(text, "x")


def test_another_format_is_to_be_exported_again(description):
    text = json.dumps({**json.loads(description.to_json()), "format_version": 99})
    with pytest.raises(InputError, match="again"):
        TranslatorDescription.from_json(text, "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", {}),
        ("ktransformer", 1),
        ("signatures", "ids"),
        ("signatures", [1]),
        ("batch_size", "3"),
        ("batching", {"max_texts": "many"}),
        ("vocabulary_size", "30"),
        ("vocabulary_size", None),
        ("max_source_length", 2.5),
        ("decoding", {"beam_size": "three"}),
        ("decoding", {"beam_size": 2.5}),
        ("decoding", {"beam_size": 0}),
        ("decoding", []),
        ("special_ids", [0]),
        ("shortlist", True),
        ("files", ["a"]),
        ("files", {"a": 1}),
        ("sha256", None),
    ],
)
def test_a_value_of_another_type_is_damage(name, value, description):
    text = json.dumps({**json.loads(description.to_json()), name: value})
    with pytest.raises(InputError, match=r"^x is"):
        TranslatorDescription.from_json(text, "x")


def test_json_that_is_nested_too_deep_is_damage():
    with pytest.raises(InputError, match="x is"):
        TranslatorDescription.from_json("[" * 100_000, "x")
