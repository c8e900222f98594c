import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, export_lite
from ktransformer.exporting.channels import quantize_channels
from ktransformer.exporting.lite import quantization
from ktransformer.exporting.lite.model_file import unpack
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from tests.layers.layer_checks import normal
from tests.small_models import small_filler

SIGNATURES = ("ids", "encode", "decode_step")
TYPE = schema.TensorType


def make_translator(**options) -> Translator:
    keras.utils.set_random_seed(0)  # A near tie may fall the other way once converted.
    tokenizer = Tokenizer.train(["one two three four five", "1 2 3 4 5"], 40)
    model = Transformer(
        tokenizer.vocabulary_size, num_layers=2, d_model=64, num_heads=4, hidden_dim=96, **options
    )
    model.build()
    return Translator(model, tokenizer)


@pytest.fixture(scope="module", params=["tied", "untied"])
def translator(request) -> Translator:
    tied = request.param == "tied"
    return make_translator(tie_embeddings=tied, positions="sinusoidal" if tied else "learned")


@pytest.fixture(scope="module")
def files(translator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantization")
    return {
        name: export_lite(
            translator, folder / f"{name}.tflite", signatures=SIGNATURES, quantization=name
        )
        for name in ("none", "float16", "dynamic_int8")
    }


def logits(file, translator) -> np.ndarray:
    interpreter = Interpreter(model_path=str(file))
    state = interpreter.get_signature_runner("encode")(source=np.array([[5, 6, 7, 3]], np.int32))
    state.pop("limits")
    step = interpreter.get_signature_runner("decode_step")
    return step(ids=np.array([2], np.int32), index=np.int32(0), **state)["logits"]


@pytest.mark.long
@pytest.mark.parametrize(("name", "error"), [("float16", 0.002), ("dynamic_int8", 0.04)])
def test_the_logits_stay_near_those_of_float32(files, translator, name, error):
    wanted, got = logits(files["none"], translator), logits(files[name], translator)
    assert 0 < np.abs(got - wanted).max() < error * np.abs(wanted).max()


def constants(file) -> dict[int, tuple[int, tuple[int, ...], int]]:
    """The type, shape and bytes of each buffer that a tensor of two axes reads."""
    model = unpack(file.read_bytes())
    found = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and tensor.shape is not None and len(tensor.shape) == 2:
                found[tensor.buffer] = (tensor.type, tuple(map(int, tensor.shape)), len(data))
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "type_", "width"), [("float16", TYPE.FLOAT16, 2), ("dynamic_int8", TYPE.INT8, 1)]
)
def test_every_large_matrix_is_stored_once_in_few_bytes(files, translator, name, type_, width):
    stored = [
        (shape, size)
        for kind, shape, size in constants(files[name]).values()
        if kind == type_ and np.prod(shape) >= 1024
    ]
    assert all(size == width * np.prod(shape) for shape, size in stored)
    large = [weight.shape for weight in translator.model.weights if np.prod(weight.shape) >= 1024]
    sinusoids = 1 if translator.model.positions == "sinusoidal" else 0
    assert len(stored) == len(large) + sinusoids
    whole = [size for kind, _, size in constants(files[name]).values() if kind == TYPE.FLOAT32]
    assert all(size < 4 * 1024 for size in whole)


@pytest.mark.long
def test_int8_takes_less_than_float16_and_that_less_than_float32(files):
    sizes = {name: file.stat().st_size for name, file in files.items()}
    assert sizes["dynamic_int8"] < 0.75 * sizes["float16"] < 0.75 * 0.7 * sizes["none"]


@pytest.mark.long
def test_a_broken_quantisation_is_found_out_before_the_file_is_written(tmp_path, monkeypatch):
    def too_large(values, channel):
        rows, scales = quantize_channels(values, channel)
        return rows, 3 * scales

    monkeypatch.setattr(quantization, "quantize_channels", too_large)
    with pytest.raises(InputError, match="gives another"):
        export_lite(
            make_translator(),
            tmp_path / "x.tflite",
            signatures=SIGNATURES,
            quantization="dynamic_int8",
        )
    assert not (tmp_path / "x.tflite").exists()


def test_a_table_that_a_product_with_an_activation_reads_stays_in_float():
    def operator(code: int, inputs: list[int], options: object) -> object:
        return schema.OperatorT(
            opcodeIndex=code,
            inputs=np.array(inputs, np.int32),
            outputs=np.array([4], np.int32),
            builtinOptions=options,
        )

    def model(bias: int, activation: int) -> object:
        table = schema.TensorT(shape=np.array([64, 32]), type=TYPE.FLOAT32, buffer=1)
        other = schema.TensorT(shape=np.array([4]), type=TYPE.FLOAT32, buffer=0)
        product = schema.FullyConnectedOptionsT(fusedActivationFunction=activation)
        graph = schema.SubGraphT(
            tensors=[table, other, other, other, other],
            outputs=np.array([4], np.int32),
            operators=[
                operator(0, [0, 1], schema.GatherOptionsT(axis=0, batchDims=0)),
                operator(1, [2, 0, bias], product),
            ],
        )
        codes = [schema.BuiltinOperator.GATHER, schema.BuiltinOperator.FULLY_CONNECTED]
        return schema.ModelT(
            subgraphs=[graph],
            buffers=[schema.BufferT(), schema.BufferT(data=np.zeros(64 * 32 * 4, np.uint8))],
            operatorCodes=[
                schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code) for code in codes
            ],
        )

    activations = schema.ActivationFunctionType
    assert quantization._find_weights(model(-1, activations.NONE))[0] == {1: (64, 32)}
    assert quantization._find_weights(model(3, activations.NONE))[0] == {1: (64, 32)}
    assert quantization._find_weights(model(-1, activations.RELU6)) == ({}, {})


@pytest.mark.long
def test_a_table_that_is_also_a_projection_with_a_bias_is_stored_in_int8(tmp_path):
    filler = small_filler(d_model=64)
    bias = filler.model.head_bias
    bias.assign(2 * normal(*bias.shape))
    contents, outputs = {}, {}
    text = np.array([b"two <mask> five", b"one"], object)
    for name in ("none", "dynamic_int8"):
        path = tmp_path / f"{name}.tflite"
        model = LiteModel(export_lite(filler, path, quantization=name))
        outputs[name] = model.run("score", texts=text)["log_probability"]
        contents[name] = path.read_bytes()
    row = filler.model.embedding.embeddings.numpy()[5].tobytes()
    assert row in contents["none"]
    assert row not in contents["dynamic_int8"]
    np.testing.assert_allclose(outputs["dynamic_int8"], outputs["none"], atol=0.3)
