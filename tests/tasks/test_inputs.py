"""What methods do with inputs that are not what they take, and with those that are."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.engines import (
    LiteEngine,
    ModelEngine,
    SavedModelEngine,
    load_translator,
    translate_lines,
)
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.models import MaskedLanguageModel, Transformer
from ktransformer.tasks import ImageClassifier, MaskFiller, Translator
from tests.layers.layer_checks import built
from tests.small_models import CLASSES, drawn_images, small_classifier, small_filler
from tests.small_translator import strings

SIZES = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 32, "max_length": 12}


@pytest.fixture(scope="module")
def filler():
    return small_filler()


@pytest.fixture(scope="module")
def classifier():
    return small_classifier()


@pytest.fixture(scope="module")
def owners(translator, filler, classifier):
    return {"translator": translator, "filler": filler, "classifier": classifier}


def from_another_thread(call) -> list:
    """Returns what a call gives in another thread, as a list of one; empty if it never returns."""
    results: list = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(timeout=120)
    return results


_PNG = tf.io.encode_png(np.zeros((8, 12, 3), np.uint8)).numpy()


@pytest.mark.parametrize(
    ("owner", "method", "bad", "good", "argument"),
    [
        ("translator", "translate_texts", ["dog"], [["one"]], "texts"),
        ("translator", "translate_texts", [["dog", None]], [["one"]], "texts"),
        ("translator", "translate_texts", [[["dog"]]], [["one"]], "texts"),
        ("translator", "translate_texts", [[1, 2]], [["one"]], "texts"),
        ("translator", "beam", ["dog"], [["one"]], "texts"),
        ("translator", "score", [["one"], "1"], [["one"], ["1"]], "target"),
        ("translator", "score", [["one"], ["1", "2"]], [["one"], ["1"]], "source and target"),
        ("translator", "sample", ["dog"], [["one"]], "texts"),
        ("translator", "ids", [[4, 3]], [[[4, 3]]], "source"),
        ("translator", "ids", [[[4, -1]]], [[[4, 3]]], "source"),
        ("translator", "ids", [[[4, 99]]], [[[4, 3]]], "source"),
        ("translator", "ids", [[[2**40]]], [[[4, 3]]], "source"),
        ("translator", "encode", [[[0.5]]], [[[4, 3]]], "source"),
        ("filler", "fill_texts", ["dog"], [["one <mask>"]], "texts"),
        ("filler", "embed", [[None]], [["one"]], "texts"),
        ("filler", "score", ["dog"], [["one"]], "texts"),
        ("filler", "fill", [["one <mask>"]], ["one <mask>"], "text"),
        ("classifier", "classify", [_PNG], [[_PNG]], "images"),
        ("classifier", "classify_pixels", [np.zeros((8, 12, 3))], [drawn_images(1, 8, 12)],
         "images"),
    ],
)  # fmt: skip
def test_a_bad_call_names_its_argument_and_no_other_thread_waits(
    owners, owner, method, bad, good, argument
):
    function = getattr(owners[owner], method)
    with pytest.raises(InputError, match=f"^{argument} "):
        function(*bad)
    assert from_another_thread(lambda: function(*good))


def test_missing_and_unknown_arguments_are_python_errors(translator):
    with pytest.raises(TypeError, match=r"'texts'"):
        translator.translate_texts()
    with pytest.raises(TypeError, match=r"'words'"):
        translator.translate_texts(["one"], words=3)
    assert from_another_thread(lambda: translator.translate_texts(texts=["one"]))


def test_a_list_an_array_and_a_tensor_of_strings_are_the_same(translator):
    texts = ["four zero two", "nine"]
    ways = [texts, tuple(texts), np.array(texts), np.array(texts, object), tf.constant(texts)]
    for way in ways:
        assert strings(translator.translate_texts(way)["text"]) == ["402", "9"]
        assert ModelEngine(translator).translate(way) == ["402", "9"]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_ids_may_be_integers_of_any_width(translator, dtype):
    ids = translator.to_ids(["four zero two"]).numpy()
    expected = translator.ids(ids)["ids"].numpy().tolist()
    assert translator.ids(ids.astype(dtype))["ids"].numpy().tolist() == expected
    assert translator.ids(tf.constant(ids.astype(dtype)))["ids"].numpy().tolist() == expected


def test_a_translator_needs_no_variable(run_folder):
    assert strings(load_translator(run_folder).translate_texts(["four zero two"])["text"]) == [
        "402"
    ]


def test_a_method_can_be_a_part_of_another_graph(translator):
    texts = tf.data.Dataset.from_tensors(["four zero two", "nine"])
    (found,) = texts.map(lambda batch: translator.translate_texts(batch)["text"])
    assert strings(found) == ["402", "9"]
    with pytest.raises(InputError, match=r"^texts "):
        tf.function(translator.translate_texts, autograph=False)(tf.constant([1]))


@pytest.mark.parametrize("empty", [[], np.array([]), tf.constant([])], ids=["list", "array", "tf"])
def test_an_empty_batch_of_any_type_gives_an_empty_batch(owners, empty):
    translator, filler, classifier = owners.values()
    assert translator.translate_texts(empty)["text"].shape == (0,)
    assert translator.beam(empty)["text"].shape == (0, translator.decoding.beam_size)
    assert translator.score(empty, empty)["log_probability"].shape == (0,)
    assert translator.sample(empty)["text"].shape == (0,)
    assert translator.ids(empty)["score"].shape == (0,)
    assert filler.fill_texts(empty)["text"].shape == (0, filler.top_k)
    assert filler.embed(empty)["embedding"].shape == (0, 32)
    assert filler.score(empty)["tokens"].shape == (0,)
    assert classifier.classify(empty)["label"].shape == (0,)
    assert classifier.classify_pixels(empty)["label"].shape == (0,)
    assert ModelEngine(translator).run("beam", empty)["score"].shape == (0, 3)


def test_an_empty_batch_of_an_export_gives_an_empty_batch(saved_model, lite_file):
    for engine in (SavedModelEngine(saved_model), LiteEngine(lite_file)):
        assert engine.translate([]) == []
        assert engine.run("serving_default", [])["text"].shape == (0,)
        assert engine.run("beam", [])["text"].shape == (0, 3)


def test_engines_refuse_what_is_no_text(translator, saved_model, lite_file):
    for engine in (
        ModelEngine(translator),
        SavedModelEngine(saved_model),
        LiteEngine(lite_file),
    ):
        with pytest.raises(InputError, match=r"texts\[1\]=None"):
            engine.translate(["one", None])
        with pytest.raises(InputError, match=r"texts\[0\]='\\udcff'"):
            translate_lines(engine, ["\udcff"])
        with pytest.raises(TypeError, match=r"list"):
            translate_lines(engine, "one")
        with pytest.raises(InputError, match=r"'nothing'"):
            engine.run("nothing", ["one"])
        with pytest.raises(InputError, match=r"batch_size=0"):
            translate_lines(engine, ["one"], batch_size=0)
        lines = translate_lines(engine, ["nine"], batch_size=np.int32(2), n_best=np.int64(1))
        assert [line.text for line in lines] == ["9"]


def test_the_signatures_of_an_export_say_what_they_take(saved_model, lite_file):
    for model in (SavedModelEngine(saved_model)._model, LiteEngine(lite_file)._model):
        with pytest.raises(InputError, match=r"ids .*source.*texts"):
            model.run("ids", texts=["one"])
        with pytest.raises(InputError, match=r"source .*int32"):
            model.run("ids", source=["one"])
        with pytest.raises(InputError, match=r"source .*0.*-1"):
            model.run("ids", source=[[4, -1]])


def test_a_decoding_step_refuses_a_token_that_the_model_does_not_have(translator, lite_file):
    size = translator.model.vocabulary_size  # 40 or 50, by SentencePiece's release.
    state = {name: part for name, part in translator.encode([[5, 3]]).items() if name != "limits"}
    arrays = {name: part.numpy() for name, part in state.items()}
    lite = LiteEngine(lite_file)._model
    for token in (-1, size, 10**6):
        with pytest.raises(InputError, match=rf"ids .*\b0\b.*\b{size - 1}\b.*{token}\b"):
            translator.decode_step([token], 0, **state)
        with pytest.raises(InputError, match=rf"ids .*\b0\b.*\b{size - 1}\b.*{token}\b"):
            lite.run("decode_step", ids=[token], index=0, **arrays)


def test_a_decoding_step_refuses_a_position_or_state_that_it_does_not_have(translator):
    state = {name: part for name, part in translator.encode([[5, 3]]).items() if name != "limits"}
    for index in (-1, translator.max_target_length):
        with pytest.raises(InputError, match=f"index .*0.*23.*index={index}"):
            translator.decode_step([2], index, **state)
    del state["cache_1"]
    with pytest.raises(InputError, match=r"cache_1.*memory_0"):
        translator.decode_step([2], 0, **state)


def test_a_model_of_another_padding_is_refused(translator, filler):
    model = built(Transformer(translator.tokenizer.vocabulary_size, pad_id=5, **SIZES))
    with pytest.raises(InputError, match=r"pad_id .*0.*pad_id=5"):
        Translator(model, translator.tokenizer)
    model = built(MaskedLanguageModel(filler.tokenizer.vocabulary_size, pad_id=5, **SIZES))
    with pytest.raises(InputError, match=r"pad_id .*0.*pad_id=5"):
        MaskFiller(model, filler.tokenizer)


def test_parts_in_the_wrong_order_are_named(translator, filler, classifier, tmp_path):
    with pytest.raises(TypeError, match=r"model .*Transformer.*Tokenizer"):
        Translator(translator.tokenizer, translator.model)
    with pytest.raises(TypeError, match=r"tokenizer .*Tokenizer.*str"):
        Translator(translator.model, "tokenizer.model")
    with pytest.raises(TypeError, match=r"model .*MaskedLanguageModel.*Tokenizer"):
        MaskFiller(filler.tokenizer, filler.model)
    with pytest.raises(TypeError, match=r"model .*VisionTransformer.*tuple"):
        ImageClassifier(CLASSES, classifier.model)
    with pytest.raises(TypeError, match=r"task .*Transformer"):
        export_saved_model(translator.model, tmp_path / "x")
    with pytest.raises(TypeError, match=r"task .*Transformer"):
        export_lite(translator.model, tmp_path / "x.tflite")
    assert not any(tmp_path.iterdir())
