"""Converts a translator to one .tflite."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.files import check_new_file, new_file
from ktransformer.lite.compaction import compact
from ktransformer.lite.conversion_check import check_conversion
from ktransformer.lite.model_file import pack, set_metadata, unpack
from ktransformer.lite.quantization import to_float16, to_int8
from ktransformer.serving import Description, Translator, write_saved_model
from ktransformer.text import PAD_ID

TEXT_SIGNATURES = ("serving_default", "beam")
MAX_TARGET_LENGTH = 65_536  # What a client may take for the longest output; export/c/lite.c does.
SIGNATURES = (*TEXT_SIGNATURES, "ids", "encode", "decode_step")
QUANTIZATIONS: dict[str, Callable[[Any], None]] = {
    "none": lambda model: None,
    "float16": to_float16,
    "dynamic_int8": to_int8,
}


def export_lite(
    translator: Translator,
    path: str | Path,
    *,
    signatures: Sequence[str] = SIGNATURES,
    quantization: str = "none",
    batch_size: int | None = None,
    source_label: str = "",
    target_label: str = "",
) -> Path:
    """Writes a translator as one .tflite file; its signatures share their weights.

    A file with `serving_default` or `beam` takes texts and needs tensorflow-text's operations in
    the interpreter. One without them has builtin operations only; the SentencePiece model that
    its ids belong to is written beside it, as `FILE.tokenizer.model`. A model of mixed precision is
    converted in float32, for LiteRT has few operations in less.

    Args:
        translator: What to convert.
        path: The file to write; one that is there is replaced.
        signatures: Which of `SIGNATURES` go in.
        quantization: How weights are stored: `"none"`, `"float16"` or `"dynamic_int8"`.
        batch_size: None for any number of texts of any length. A number fixes all shapes, for
            runtimes that cannot resize, such as LiteRT's in browsers: so many texts, sources
            padded to `max_source_length`, and ids given padded to `max_target_length`.
        source_label: What the source is, a language or any words; for the description.
        target_label: What the target is.

    Returns:
        The file.

    Raises:
        InputError: A signature or quantisation is unknown, the tokenizer's LiteRT form would give
            other ids, or the model does not convert or computes something else when converted.
    """
    _check(translator, signatures, quantization, batch_size)
    path = Path(path)
    check_new_file(path, overwrite=True)
    translator = _in_float32(translator)
    description = Description.of(
        translator,
        batch_size=batch_size,
        signatures=tuple(name for name in SIGNATURES if name in signatures),
        source_label=source_label,
        target_label=target_label,
        quantization=quantization,
    )
    model = unpack(_convert(_trace(translator, description.signatures, batch_size)))
    set_metadata(model, description.to_json())
    if quantization != "none":  # Else the tensors keep their names, which profilers show.
        QUANTIZATIONS[quantization](model)
        compact(model)
    content = pack(model)
    check_conversion(content, translator, description)
    if not set(TEXT_SIGNATURES) & set(signatures):
        with new_file(tokenizer_beside(path)) as file:
            translator.tokenizer.save(file)
    with new_file(path) as file:
        file.write_bytes(content)
    return path


def tokenizer_beside(path: str | Path) -> Path:
    """Returns the path of the SentencePiece model that goes with a file that takes no text."""
    return Path(f"{path}.tokenizer.model")


def _check(
    translator: Translator, signatures: Sequence[str], quantization: str, batch_size: int | None
) -> None:
    unknown = [name for name in signatures if name not in SIGNATURES]
    if unknown or not signatures or isinstance(signatures, str):
        raise InputError(f"signatures must be some of {', '.join(SIGNATURES)}; got {signatures!r}.")
    if quantization not in QUANTIZATIONS:
        raise InputError(
            f"quantization must be one of {', '.join(QUANTIZATIONS)}; got {quantization!r}."
        )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1; got {batch_size}.")
    if translator.max_target_length > MAX_TARGET_LENGTH:
        raise InputError(
            f"max_target_length must be at most {MAX_TARGET_LENGTH} in a .tflite; "
            f"got {translator.max_target_length}."
        )
    obstacle = translator.tokenizer.lite_obstacle
    if obstacle and set(TEXT_SIGNATURES) & set(signatures):
        raise InputError(
            f"This tokenizer has no LiteRT form that gives the same ids: {obstacle}. "
            "Export the signatures ids, encode and decode_step alone, or a SavedModel."
        )


def _in_float32(translator: Translator) -> Translator:
    """Makes what was trained in mixed precision compute in float32, as its weights are stored."""
    model = translator.model
    if model.compute_dtype == "float32":
        return translator
    wide = type(model).from_config({**model.get_config(), "dtype": "float32"})
    wide.build()
    wide.set_weights(model.get_weights())
    return Translator(wide, translator.tokenizer, translator.decoding)


def _trace(translator: Translator, names: Sequence[str], batch_size: int | None) -> dict[str, Any]:
    """Traces the signatures with every weight as one constant, which they all share."""
    constants = [(weight, tf.constant(weight.value)) for weight in translator.model.weights]

    def traced(function: Callable[..., Any], *specs: tf.TensorSpec, **state: tf.TensorSpec) -> Any:
        def frozen(*arguments: tf.Tensor, **more: tf.Tensor) -> Any:
            with keras.StatelessScope(state_mapping=constants):
                return function(*arguments, **more)

        return tf.function(frozen).get_concrete_function(*specs, **state)

    def ids(source: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs: dict[str, tf.Tensor] = translator.ids.python_function(source)
        return _fixed(outputs, batch_size, translator.max_target_length) if batch_size else outputs

    texts = tf.TensorSpec([batch_size], tf.string, "texts")
    length = translator.max_source_length if batch_size else None
    source = tf.TensorSpec([batch_size, length], tf.int32, "source")
    encode = traced(translator.encode.python_function, source)
    state = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, tensor in encode.structured_outputs.items()
        if name != "limits"
    }
    makers = {
        "serving_default": lambda: traced(translator.translate.python_function, texts),
        "beam": lambda: traced(translator.beam.python_function, texts),
        "ids": lambda: traced(ids, source),
        "encode": lambda: encode,
        "decode_step": lambda: traced(
            translator.decode_step,
            tf.TensorSpec([batch_size], tf.int32, "ids"),
            tf.TensorSpec([], tf.int32, "index"),
            **state,
        ),
    }
    return {name: makers[name]() for name in names}


def _fixed(outputs: dict[str, tf.Tensor], rows: int, length: int) -> dict[str, tf.Tensor]:
    """Pads ids to `[rows, length]`, so that no shape depends on what is translated."""
    padding = tf.fill([rows, length], PAD_ID)
    ids = tf.slice(tf.concat([outputs["ids"], padding], axis=1), [0, 0], [rows, length])
    fixed = {name: tf.ensure_shape(outputs[name], [rows]) for name in ("score", "truncated")}
    return {"ids": ids, **fixed}


def _convert(signatures: dict[str, Any]) -> bytes:
    """Converts traced signatures, in float32; only builtin and custom operations, no Flex."""
    module = tf.Module()
    module.functions = signatures
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(module, Path(folder), signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.allow_custom_ops = True  # tensorflow-text's; the check refuses others.
        try:
            content: bytes = converter.convert()
        except Exception as error:  # The converter's own ConverterError, and what MLIR raises.
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"LiteRT cannot express this model: {reason}") from error
    return content
