"""Arguments of graphs, turned into tensors and checked before TensorFlow sees them."""

import reprlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.line_limits import cut_line

if TYPE_CHECKING:
    import tensorflow as tf

_OF_IDS = (
    "source",
    "ids",
    "prompts",
)  # The inputs of signatures that are ids, where they are integers.
UNBATCHED = frozenset({"source_terms", "suppress", "target_terms"})
"""The inputs with an axis that is not that of the batch: they are for all of its texts."""


class ArraySpec(NamedTuple):
    """An input of a .tflite, whose lengths LiteRT itself checks.

    Attributes:
        rank: The number of its axes.
        dtype: Its type; `bytes` for texts.
    """

    rank: int
    dtype: np.dtype

    @property
    def takes_text(self) -> bool:
        """Whether its elements are texts."""
        return self.dtype.kind == "S"

    def to_tensor_spec(self) -> "tf.TensorSpec":
        """Returns the same as TensorFlow has it."""
        import tensorflow as tf

        return tf.TensorSpec([None] * self.rank, tf.string if self.takes_text else self.dtype)


def to_texts(texts: Any) -> list[str]:
    """Turns an engine's argument into a list of strings.

    Args:
        texts: Strings: a list, a NumPy array, a tensor, or anything else that gives one after
            another. Bytes are taken for UTF-8.

    Raises:
        InputError: One of them is no string, or has no UTF-8 form.
        TypeError: It is a single string, or gives nothing one after another.
    """
    if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
        got = "one string" if isinstance(texts, (str, bytes)) else reprlib.repr(texts)
        raise TypeError(f"texts must be a list of strings; got {got}.")
    if _is_tensor(texts):
        texts = texts.numpy()
    found = list(texts)
    for i, text in enumerate(found):
        if not isinstance(text, (str, bytes)):
            raise InputError(f"texts must be strings; got texts[{i}]={reprlib.repr(text)}.")
        if isinstance(text, str) and not text.isascii():
            _check_unicode(i, text)
    return found


def _is_tensor(value: Any) -> "TypeGuard[tf.Tensor]":
    """Tells whether a value is a tensor, which there are none of before TensorFlow is imported."""
    # Another thread may be importing it.
    return isinstance(value, getattr(sys.modules.get("tensorflow"), "Tensor", ()))


def _check_unicode(place: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"texts must be Unicode without surrogates; got texts[{place}]={reprlib.repr(text)}."
        ) from None


def to_tensors(
    signature: str, specs: Mapping[str, "tf.TensorSpec"], inputs: Mapping[str, Any]
) -> "dict[str, tf.Tensor]":
    """Turns the inputs of a signature into tensors, in the signature's order; see `to_tensor`.

    Raises:
        InputError: One is missing, unknown or does not fit.
    """
    _check_names(signature, specs, inputs)
    return {name: to_tensor(name, inputs[name], spec) for name, spec in specs.items()}


def to_arrays(
    signature: str, specs: Mapping[str, ArraySpec], inputs: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Turns the inputs of a signature into NumPy arrays; arrays that fit are not copied.

    Raises:
        InputError: As `to_tensors`.
    """
    _check_names(signature, specs, inputs)
    return {name: _to_array(name, value, specs[name]) for name, value in inputs.items()}


def _to_array(name: str, value: Any, spec: ArraySpec) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.ndim == spec.rank and _fits(value, spec):
        return value
    return np.asarray(to_tensor(name, value, spec.to_tensor_spec()))


def _fits(array: np.ndarray, spec: ArraySpec) -> bool:
    """Tells whether an array has an input's type; texts are objects, each of bytes."""
    if array.dtype.kind == "O":
        return spec.takes_text and all(isinstance(each, bytes) for each in array.flat)
    return bool(array.dtype == spec.dtype)


def _check_names(signature: str, specs: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    if inputs.keys() != specs.keys():
        raise InputError(
            f"The signature {signature} takes {', '.join(sorted(specs))}; "
            f"got {', '.join(sorted(inputs)) or 'nothing'}."
        )


def to_tensor(name: str, value: Any, spec: "tf.TensorSpec") -> "tf.Tensor":
    """Turns an argument into the tensor that a graph takes.

    Args:
        name: The argument's name, for the message.
        value: A tensor, also of a graph that is being traced, a NumPy array, or nested lists. One
            without elements may be of any type: an empty list has none of its own. Integers may
            be of another width, if they fit.
        spec: The graph's input.

    Returns:
        A tensor of the spec's type, and of a shape that is compatible with the spec's.

    Raises:
        InputError: The argument is something else.
    """
    import tensorflow as tf

    try:
        tensor = _convert(value, spec)
    except (TypeError, ValueError, OverflowError, tf.errors.OpError):
        tensor = None
    if tensor is None or not spec.shape.is_compatible_with(tensor.shape):
        raise InputError(f"{name} must be {_expected(spec)}; got {_shown(value)}.") from None
    return tensor


def check_batch(inputs: "Mapping[str, tf.Tensor | np.ndarray]") -> None:
    """Checks that inputs `[B, ...]` have one B, as far as it is known: a graph may repeat one.

    Those of `UNBATCHED` have a number of their own, which is one, too.

    Raises:
        InputError: They have not.
    """
    if len(inputs) < 2:  # Nothing to compare, in the call of each sentence.
        return
    # The rank of a tensor is below 0 where it is not known.
    counts = {name: each.shape[0] for name, each in inputs.items() if each.ndim > 0}
    for names in counts.keys() - UNBATCHED, counts.keys() & UNBATCHED:
        some = {name: count for name, count in counts.items() if name in names}
        if len(set(some.values()) - {None}) > 1:
            sizes = ", ".join(f"{name}: {count}" for name, count in some.items())
            raise InputError(f"{' and '.join(some)} must be equally many; got {sizes}.")


def check_ids(name: str, ids: np.ndarray, sizes: Any) -> None:
    """Checks that a model has the ids: in a graph, negative ones count from the end.

    Args:
        name: The name of the input; `source` has the source's vocabulary, if that is another.
        ids: The ids.
        sizes: A model or the description of an export, with `vocabulary_size` and, if source and
            target have two vocabularies, `source_vocabulary_size`.

    Raises:
        InputError: One is outside of the vocabulary.
    """
    own = getattr(sizes, "source_vocabulary_size", None) if name == "source" else None
    vocabulary_size = own or sizes.vocabulary_size
    outside = ids[(ids < 0) | (ids >= vocabulary_size)]
    if outside.size:
        raise InputError(
            f"{name} must be from 0 to {vocabulary_size - 1}, the last id of its vocabulary; "
            f"got {outside.flat[0]}."
        )


def check_inputs_ids(
    specs: Mapping[str, "tf.TensorSpec | ArraySpec"], inputs: Mapping[str, Any], description: Any
) -> None:
    """Checks the ids among an export's inputs, if its kind has any; see `check_ids`."""
    for name in _OF_IDS if hasattr(description, "vocabulary_size") else ():
        if name in inputs and specs[name].dtype == np.int32:
            check_ids(name, np.asarray(inputs[name]), description)


def _convert(value: Any, spec: "tf.TensorSpec") -> "tf.Tensor | None":
    """Returns a tensor of the spec's type, or None where the elements are of another."""
    import tensorflow as tf

    if isinstance(value, tf.Variable):
        value = tf.convert_to_tensor(value)
    elif not isinstance(value, tf.Tensor):
        # Not by NumPy for strings: it drops the NULs at their ends.
        value = tf.constant(value, tf.string) if spec.dtype == tf.string else np.asarray(value)
    shape = tf.TensorShape(value.shape)
    if shape.num_elements() == 0:
        return _empty(shape, spec)
    if tf.as_dtype(value.dtype) == spec.dtype:
        return tf.convert_to_tensor(value)
    if not tf.is_symbolic_tensor(value):
        return _from_array(np.asarray(value), spec.dtype)
    return tf.cast(value, spec.dtype) if value.dtype.is_integer and spec.dtype.is_integer else None


def _empty(shape: "tf.TensorShape", spec: "tf.TensorSpec") -> "tf.Tensor":
    """Makes a tensor without elements; a flat one is an empty batch of any rank."""
    import tensorflow as tf

    if shape.rank == 1 and spec.shape.rank:
        return tf.zeros([0, *(size or 1 for size in spec.shape[1:])], spec.dtype)
    return tf.zeros(shape, spec.dtype)


def _from_array(array: np.ndarray, dtype: "tf.DType") -> "tf.Tensor | None":
    """Makes a tensor of numbers, if the type can hold them; booleans are none."""
    import tensorflow as tf

    kinds = "iu" if dtype.is_integer else "iuf" if dtype.is_floating else ""
    if array.dtype.kind not in kinds:
        return None
    wide = not np.can_cast(array.dtype, dtype.as_numpy_dtype)
    if dtype.is_integer and wide and not dtype.min <= array.min() <= array.max() <= dtype.max:
        return None
    return tf.constant(array.astype(dtype.as_numpy_dtype))


def _expected(spec: "tf.TensorSpec") -> str:
    if spec.shape.rank == 0:
        return f"one {spec.dtype.name}"
    axes = ["B" if i == 0 else "N" for i in range(spec.shape.rank or 0)]
    sizes = [str(size or axis) for size, axis in zip(spec.shape, axes, strict=True)]
    elements = "strings" if spec.dtype.name == "string" else spec.dtype.name
    return f"a list, array or tensor of {elements} [{', '.join(sizes)}]"


def _shown(value: Any) -> str:
    """Writes an argument in at most a line: arrays and tensors by type and shape."""
    if isinstance(value, np.ndarray) or _is_tensor(value):
        name = value.dtype.name
        return f"{name} [{', '.join(str(size) for size in value.shape)}]"
    return reprlib.repr(value)


def cut_texts(texts: Sequence[str], max_length: int) -> np.ndarray:
    """Returns texts as an array `[B]` of UTF-8, each cut to the part that is read of it.

    Args:
        texts: The texts.
        max_length: The most tokens of a text; 64 characters are read for each.
    """
    return np.array([cut_line(text, max_length).encode() for text in texts], dtype=object)
