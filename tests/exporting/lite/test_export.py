import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ktransformer.engines import LiteEngine, ModelEngine
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite
from ktransformer.exporting.lite.model_file import custom_operations
from ktransformer.layers import EncoderBlock, FeedForward
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from tests.layers.layer_checks import built
from tests.small_translator import TEXTS, with_decoding
from tests.subclasses import OneKeyTransformer, RelativeTransformer, SwiGLUTransformer

IDS = ("ids", "encode", "decode_step")


def test_only_builtin_operations_and_the_tokenizers_are_in_the_file(lite_file):
    assert custom_operations(lite_file.read_bytes()) == {
        "TFText>FastSentencepieceTokenize",
        "TFText>FastSentencepieceDetokenize",
        "TFText>ByteSplitByOffsets",
        "TFText>ByteSplitWithOffsets",
        "TFText>NgramsStringJoin",
    }


@pytest.mark.long
def test_a_file_without_text_has_builtin_operations_alone(ids_file):
    assert custom_operations(ids_file.read_bytes()) == set()


def test_the_sentencepiece_model_lies_beside_a_file_without_text(ids_file, lite_file, translator):
    beside = ids_file.with_name("ids.tflite.tokenizer.model")
    assert beside.read_bytes() == translator.tokenizer.model
    assert not lite_file.with_name(f"{lite_file.name}.tokenizer.model").exists()


# Runs ids, and the loop over encode and decode_step, with no TensorFlow to be had.
WITHOUT_TENSORFLOW = """
import json, sys
sys.modules["tensorflow"] = sys.modules["tensorflow_text"] = None
import numpy as np, sentencepiece
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model_path=sys.argv[1])
processor = sentencepiece.SentencePieceProcessor(sys.argv[1] + ".tokenizer.model")
encoded = [processor.encode(text) + [3] for text in json.loads(sys.argv[2])]
source = np.zeros((len(encoded), max(map(len, encoded))), np.int32)
for row, ids in zip(source, encoded):
    row[: len(ids)] = ids
best = interpreter.get_signature_runner("ids")(source=source)["ids"]

state = interpreter.get_signature_runner("encode")(source=source)
limits = state.pop("limits")
step = interpreter.get_signature_runner("decode_step")
newest, chosen = np.full(len(encoded), 2, np.int32), []
for index in range(limits.max()):
    outputs = step(ids=newest, index=np.int32(index), **state)
    logits = outputs.pop("logits")
    logits[:, :3] = -1e9
    newest = logits.argmax(axis=-1).astype(np.int32)
    state |= outputs
    chosen.append(newest)

def decode(ids):
    ids = ids.tolist()
    return processor.decode(ids[: ids.index(3)])

loop = [decode(row) for row in np.stack(chosen, axis=1)]
print(json.dumps({"ids": [decode(row) for row in best], "loop": loop}))
"""


def test_a_file_without_text_runs_in_a_process_without_tensorflow(ids_file):
    texts = ["four zero two", "nine one", "seven seven seven one six"]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(ids_file), json.dumps(texts)],
        capture_output=True,
        text=True,
        check=True,
    )
    outputs = json.loads(result.stdout.splitlines()[-1])
    assert outputs == {"ids": ["402", "91", "77716"], "loop": ["402", "91", "77716"]}


def test_the_signatures_share_their_weights(lite_file, ids_file, translator):
    for file in (lite_file, ids_file):
        content = file.read_bytes()
        for weight in translator.model.weights:
            if np.prod(weight.shape) >= 4096:  # The bytes of a large weight are there once.
                values = np.asarray(weight.value)
                # The converter multiplies queries' weights by 1 / sqrt(d_k) once and for all.
                forms = {values.tobytes(), values.T.tobytes()}
                forms |= {(values.T * np.float32(16**-0.5)).tobytes()}
                assert sum(map(content.count, forms)) == 1, weight.path


def test_greedy_and_beam_exports_say_what_the_model_says(translator, tmp_path):
    for beam_size, signature in ((1, "serving_default"), (4, "beam")):
        searcher = with_decoding(translator, beam_size=beam_size)
        file = export_lite(searcher, tmp_path / f"{beam_size}.tflite", signatures=[signature])
        expected = ModelEngine(searcher).translate_n_best(TEXTS, n_best=beam_size)
        for line, other in zip(
            expected, LiteEngine(file).translate_n_best(TEXTS, n_best=beam_size), strict=True
        ):
            assert other.texts == line.texts
            assert other.scores == pytest.approx(line.scores, abs=1e-4)


@pytest.mark.parametrize("beam_size", [pytest.param(1, marks=pytest.mark.long), 4])
def test_a_file_says_the_same_without_xnnpack(translator, beam_size, tmp_path):
    """With it LiteRT's own operations share memory otherwise, and one once had another's."""
    searcher = with_decoding(translator, beam_size=beam_size)
    file = export_lite(searcher, tmp_path / "model.tflite", signatures=["ids"])
    ids = searcher.to_ids(tf.constant(TEXTS))
    interpreter = Interpreter(
        model_path=str(file),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    found = interpreter.get_signature_runner("ids")(source=ids.numpy())
    expected = searcher.lite_signature("ids", None).function(source=ids)
    np.testing.assert_array_equal(found["ids"], expected["ids"])
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-4)


@pytest.mark.parametrize(
    ("model_class", "options"),
    [
        (OneKeyTransformer, {"positions": "none", "output_bias": True}),
        pytest.param(SwiGLUTransformer, {"positions": "learned"}, marks=pytest.mark.long),
        pytest.param(RelativeTransformer, {}, marks=pytest.mark.long),
    ],
)
def test_a_model_of_other_parts_exports(model_class, options, tmp_path):
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 16}
    model = built(model_class(tokenizer.vocabulary_size, **options, **sizes))
    translator = Translator(model, tokenizer)
    file = export_lite(translator, tmp_path / "model.tflite", signatures=["beam"])
    (expected,) = ModelEngine(translator).translate_n_best(["one two"], n_best=4)
    (got,) = LiteEngine(file).translate_n_best(["one two"], n_best=4)
    assert got.scores == pytest.approx(expected.scores, abs=1e-4)


@pytest.mark.long
def test_a_model_of_mixed_precision_is_converted_in_float32(tmp_path):
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 16}
    mixed = Transformer(tokenizer.vocabulary_size, **sizes, dtype="mixed_float16")
    mixed.build()
    wide = Transformer(tokenizer.vocabulary_size, **sizes)
    wide.build()
    wide.set_weights(mixed.get_weights())
    file = export_lite(Translator(mixed, tokenizer), tmp_path / "mixed.tflite", signatures=["beam"])
    (expected,) = ModelEngine(Translator(wide, tokenizer)).translate_n_best(["one two"], n_best=4)
    (got,) = LiteEngine(file).translate_n_best(["one two"], n_best=4)
    assert got.scores == pytest.approx(expected.scores, abs=1e-4)
    assert mixed.compute_dtype == "float16"


@pytest.mark.long
def test_shorter_limits_hold_in_the_file(translator, tmp_path):
    limited = with_decoding(translator, max_source_length=5, max_target_length=3)
    file = export_lite(limited, tmp_path / "short.tflite", signatures=["serving_default"])
    engine = LiteEngine(file)
    assert engine.description.max_source_length == 5
    for line, other in zip(
        ModelEngine(limited).translate_n_best(TEXTS), engine.translate_n_best(TEXTS), strict=True
    ):
        assert (other.text, other.truncated) == (line.text, line.truncated)


def test_fixed_shapes_run_where_nothing_can_be_resized(translator, tmp_path):
    file = export_lite(translator, tmp_path / "fixed.tflite", signatures=IDS, batch_size=2)
    interpreter = Interpreter(model_path=str(file))
    for name in IDS:
        runner = interpreter.get_signature_runner(name)
        for detail in [*runner.get_input_details().values(), *runner.get_output_details().values()]:
            assert -1 not in detail["shape_signature"], (name, detail)
            assert detail["dtype"] in (np.int32, np.float32), (name, detail)
    source = np.zeros((2, 24), np.int32)
    ids = translator.to_ids(tf.constant(["four zero two", "nine"])).numpy()
    source[:, : ids.shape[1]] = ids
    outputs = interpreter.get_signature_runner("ids")(source=source)["ids"]
    assert outputs.shape == (2, 24)
    texts = translator.tokenizer.decode(tf.constant(outputs)).numpy().tolist()
    assert texts == [b"402", b"9"]


@pytest.mark.long
@pytest.mark.parametrize("quantization", ["float16", "dynamic_int8"])
def test_a_quantised_file_translates_and_is_smaller(translator, tmp_path, quantization):
    whole, file = (
        export_lite(
            translator,
            tmp_path / f"{name}.tflite",
            signatures=["serving_default"],
            quantization=name,
        )
        for name in ("none", quantization)
    )
    assert file.stat().st_size < whole.stat().st_size - 100_000
    engine = LiteEngine(file)
    assert engine.description.quantization == quantization
    assert engine.translate(["four zero two", "nine", ""]) == ["402", "9", ""]


def foreign_tokenizer(tmp_path, **options):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three", "1 2 3"] * 20),
        model_prefix=str(tmp_path / "foreign"),
        vocab_size=300,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
        **options,
    )
    return Tokenizer.load(tmp_path / "foreign.model")


def make_translator(tokenizer):
    model = Transformer(
        tokenizer.vocabulary_size, num_layers=1, d_model=16, num_heads=2, hidden_dim=16
    )
    model.build()
    return Translator(model, tokenizer)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "bpe"}, "its kind is BPE, not UNIGRAM"),
        ({"normalization_rule_name": "nfkc"}, "its normalisation is 'nfkc', not 'nmt_nfkc'"),
        ({"add_dummy_prefix": False}, "it does not treat spaces in SentencePiece's default way"),
        ({"byte_fallback": True}, "it spells unknown characters in bytes"),
        ({"user_defined_symbols": ["<x>"]}, "it has user-defined or unused pieces"),
    ],
)
def test_a_tokenizer_whose_fast_form_differs_is_refused(tmp_path, options, reason):
    translator = make_translator(foreign_tokenizer(tmp_path, **options))
    with pytest.raises(InputError, match=f"LiteRT.*{reason}"):
        export_lite(translator, tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


@pytest.mark.parametrize("name", ["m.tflite", "m.tflite.tokenizer.model"])
def test_a_file_that_is_there_is_not_replaced_unasked(name, translator, tmp_path):
    (tmp_path / name).write_text("precious")
    with pytest.raises(InputError, match=r"overwrite=True"):
        export_lite(translator, tmp_path / "m.tflite", signatures=["encode"])
    assert (tmp_path / name).read_text() == "precious"
    file = export_lite(translator, tmp_path / "m.tflite", signatures=["encode"], overwrite=True)
    assert Interpreter(model_path=str(file)).get_signature_list()


@pytest.mark.long
def test_a_tokenizer_without_a_fast_form_is_no_matter_to_a_file_of_ids(tmp_path):
    translator = make_translator(foreign_tokenizer(tmp_path, model_type="bpe"))
    file = export_lite(translator, tmp_path / "model.tflite", signatures=["ids"])
    assert Interpreter(model_path=str(file)).get_signature_list()


@keras.saving.register_keras_serializable(package="tests")
class GammaFeedForward(FeedForward):
    """Adds what LiteRT has no operation for: the logarithm of the gamma function."""

    def compute_hidden(self, inputs):
        return tf.math.lgamma(1.0 + keras.ops.abs(super().compute_hidden(inputs)))


@keras.saving.register_keras_serializable(package="tests")
class GammaBlock(EncoderBlock):
    def make_feed_forward(self):
        return GammaFeedForward(self.hidden_dim)


@keras.saving.register_keras_serializable(package="tests")
class GammaTransformer(Transformer):
    def make_encoder_block(self):
        return GammaBlock(**self.block_arguments())


@pytest.mark.long
def test_a_model_that_litert_cannot_express_is_refused(translator, tmp_path):
    model = GammaTransformer(
        translator.tokenizer.vocabulary_size, num_layers=1, d_model=16, num_heads=2, hidden_dim=16
    )
    model.build()
    with pytest.raises(InputError, match=r"LiteRT has no|LiteRT cannot express|does not run"):
        export_lite(
            Translator(model, translator.tokenizer), tmp_path / "x.tflite", signatures=["ids"]
        )
    assert not (tmp_path / "x.tflite").exists()


def test_an_unknown_signature_or_quantisation_is_refused(translator, tmp_path):
    for signatures in (["ids", "stream"], [], "ids"):
        with pytest.raises(InputError, match=r"signatures .*serving_default"):
            export_lite(translator, tmp_path / "x.tflite", signatures=signatures)
    with pytest.raises(InputError, match=r"'decode_step'\?$"):
        export_lite(translator, tmp_path / "x.tflite", signatures=["decode_steps"])
    with pytest.raises(InputError, match=r"batch_size .*1.*batch_size=0"):
        export_lite(translator, tmp_path / "x.tflite", batch_size=0)
    with pytest.raises(InputError, match=r"quantization .*dynamic_int8.*'int4'"):
        export_lite(translator, tmp_path / "x.tflite", quantization="int4")
