"""Searches that XLA compiles in a few shapes."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ktransformer.cli import main
from ktransformer.config import BatchingConfig, CompilationConfig
from ktransformer.decoding import Hypotheses, Rule
from ktransformer.errors import InputError
from ktransformer.exporting import SavedModel, export_saved_model
from ktransformer.exporting.saved_model.warmup_requests import read_warmup
from ktransformer.models import Transformer
from ktransformer.tasks import Shortlist, Translator
from ktransformer.tasks.compiled_search import search_in_shapes, split
from tests.run_command import refusal
from tests.small_models import small_classifier
from tests.small_run import number_pairs
from tests.small_translator import drawn_translator, lexicon_of, strings, with_decoding

SIGNATURES = ("serving_default", "beam", "ids")
SHAPES = CompilationConfig(batch_sizes=(2, 4), lengths=(8, 16))
RULES = {"max_repeats": 2, "no_repeat_ngram_size": 3, "min_length": 2, "coverage_penalty": 0.2}
TEXTS = [source for source, _ in number_pairs(12, seed=3)]


@pytest.fixture(scope="module")
def greedy():
    return with_decoding(drawn_translator(), beam_size=1, max_repeats=2)


@pytest.fixture(scope="module")
def beam():
    return with_decoding(drawn_translator(), beam_size=3, length_penalty=0.6, **RULES)


@pytest.fixture(scope="module")
def exported(greedy, tmp_path_factory):
    """`greedy` in `SHAPES`, opened: whichever test comes first compiles a shape."""
    folder = tmp_path_factory.mktemp("exported")
    return SavedModel(export(greedy, folder, SHAPES, *SIGNATURES))


@pytest.fixture
def exported_beam(beam, tmp_path):
    return SavedModel(export(beam, tmp_path, SHAPES, *SIGNATURES))


def export(translator, folder, shapes, *signatures, **options):
    """Exports `signatures` alone: each is traced and compiled for itself."""
    return export_saved_model(
        translator, folder, signatures=signatures, compilation=shapes, **options
    )


def functions_of(path):
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0].graph_def.library.function


def is_compiled(path):
    """Tells whether a SavedModel has a function that XLA must compile."""
    return any(function.attr["_XlaMustCompile"].b for function in functions_of(path))


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("greedy", "exported"),
        pytest.param("beam", "exported_beam", marks=pytest.mark.long),
    ],
    ids=["greedy", "beam"],
)
def test_texts_are_those_of_the_plain_search(name, opened, request):
    translator, model = request.getfixturevalue(name), request.getfixturevalue(opened)
    assert is_compiled(model.path)
    assert model.description.compilation == SHAPES
    for size in (0, 1, 3, 7, 8, 9, 12):  # Whole, of two parts, and, from 9 on, of four.
        texts = TEXTS[:size]
        for signature, plain in (
            ("serving_default", translator.translate_texts),
            ("beam", translator.beam),
        ):
            found = model.run(signature, texts=np.array(texts, dtype=object))
            expected = plain(tf.constant(texts, tf.string))
            assert found["text"].astype(str).tolist() == strings(expected["text"])
            np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4, atol=1e-4)
            assert found["truncated"].tolist() == expected["truncated"].numpy().tolist()


def test_shapes_of_outputs_do_not_show_the_padding(greedy, exported):
    for size in (1, 3, 8):
        source = tf.pad(greedy.to_ids(tf.constant(TEXTS[:size])), [[0, 0], [0, 9]])
        found, expected = exported.run("ids", source=source.numpy()), greedy.ids(source)
        assert found["ids"].shape == expected["ids"].shape
        assert found["ids"].tolist() == expected["ids"].numpy().tolist()


def test_its_products_stay_as_xla_takes_them(exported):
    operations = {node.op for function in functions_of(exported.path) for node in function.node_def}
    assert "BatchMatMulV2" in operations
    assert "BatchMatMulV3" not in operations  # `keep_from_onednn` makes them in plain exports.


def test_texts_without_a_token_and_texts_that_are_cut(greedy, exported):
    texts = ["", "   ", "one " * 60]  # The last has room in no shape, and then none of them has.
    for some in (texts[:2], texts):
        found = exported.run("serving_default", texts=np.array(some, dtype=object))
        expected = greedy.translate_texts(some)
        assert found["text"].astype(str).tolist() == strings(expected["text"])
        assert found["truncated"].tolist() == expected["truncated"].numpy().tolist()


def test_one_request_of_each_shape_is_stored(greedy, tmp_path):
    shapes = CompilationConfig(batch_sizes=(1, 4, 10), lengths=(8, 12, 16))
    found = {"serving_default": set(), "beam": set(), "score": set()}
    path = export(greedy, tmp_path, shapes, *found)
    for signature, inputs in read_warmup(path):
        if signature in found:
            rows, length = greedy.to_ids(tf.constant(next(iter(inputs.values())))).shape
            found[signature].add((rows, next(each for each in (8, 12, 16, 99) if each >= length)))
    # Twenty are split into two parts of ten.
    every = {(rows, length) for rows in (1, 4, 20) for length in shapes.lengths}
    assert found["serving_default"] == found["beam"] == every
    assert {rows for rows, _ in found["score"]} == {1, 4, 16}  # It is not compiled.


REQUESTS = """
import sys
import numpy as np
from ktransformer.exporting import SavedModel

model, texts = SavedModel(sys.argv[1]), np.array(sys.argv[2:], dtype=object)
model.warmup()
print("warm", file=sys.stderr, flush=True)
for size in range(1, 13):
    for signature in ("serving_default", "beam", "document"):
        model.run(signature, texts=texts[:size])
"""


@pytest.mark.long
def test_nothing_is_compiled_after_the_warm_up(tmp_path):
    translator = with_decoding(drawn_translator(max_length=70), beam_size=2, max_length_ratio=9.0)
    shapes = CompilationConfig(batch_sizes=(2, 4), lengths=(8, 16))
    path = export_saved_model(translator, tmp_path, compilation=shapes)
    # TensorFlow writes a line for each program that it compiles.
    process = subprocess.run(
        [sys.executable, "-c", REQUESTS, path, *TEXTS],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_compiler=1"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    during, after = process.stderr.split("\nwarm\n")
    assert "Compilation of XLA executable" in during
    assert "Compilation of XLA executable" not in after


def test_shapes_are_no_longer_than_the_models_texts(greedy, tmp_path):
    shapes = CompilationConfig(batch_sizes=(2,), lengths=(16, 64, 128))
    model = SavedModel(export(greedy, tmp_path, shapes, "serving_default"))
    assert model.description.compilation.lengths == (16, greedy.max_source_length)
    texts = ["one " * 60, "two"]
    found = model.run("serving_default", texts=np.array(texts, dtype=object))
    expected = greedy.translate_texts(texts)
    assert found["text"].astype(str).tolist() == strings(expected["text"])
    assert found["truncated"].tolist() == [True, False]


def test_targets_of_every_stage(tmp_path):
    translator = with_decoding(drawn_translator(max_length=70), beam_size=2, max_length_ratio=9.0)
    shapes = CompilationConfig(batch_sizes=(4,), lengths=(16,))
    path = export(translator, tmp_path, shapes, "serving_default")
    found = SavedModel(path).run("serving_default", texts=np.array(TEXTS[:4], dtype=object))
    expected = translator.translate_texts(TEXTS[:4])
    assert max(len(text.split()) for text in strings(expected["text"])) > 48
    assert found["text"].astype(str).tolist() == strings(expected["text"])


def test_other_signatures_and_joined_requests(greedy, tmp_path):
    shapes = CompilationConfig(batch_sizes=(4,), lengths=(16,))
    joined = BatchingConfig(max_texts=4)
    signatures = ("serving_default", "document")
    model = SavedModel(export(greedy, tmp_path, shapes, *signatures, batching=joined))
    texts = np.array(TEXTS[:5], dtype=object)
    for signature in signatures:
        found = model.run(signature, texts=texts)
        expected = greedy.saved_model_signatures()[signature](tf.constant(TEXTS[:5]))
        assert found["text"].astype(str).tolist() == strings(expected["text"])


class Capped(Transformer):
    """Has logits of its own, which no product with a table gives."""

    def _project(self, hidden):
        return 3.0 * tf.tanh(super()._project(hidden))


def test_a_model_with_logits_of_its_own(tmp_path):
    translator = with_decoding(drawn_translator(model_class=Capped), beam_size=1)
    shapes = CompilationConfig(batch_sizes=(4,), lengths=(16,))
    path = export(translator, tmp_path, shapes, "serving_default")
    found = SavedModel(path).run("serving_default", texts=np.array(TEXTS[:3], dtype=object))
    expected = translator.translate_texts(TEXTS[:3])
    assert found["text"].astype(str).tolist() == strings(expected["text"])
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"tie_embeddings": False, "positions": "rotary", "source_vocabulary_size": True},
        {"output_bias": True, "num_kv_heads": 2, "positions": "relative"},
    ],
)
def test_other_models(options, tmp_path):
    translator = drawn_translator(**options).with_settings(beam_size=1)
    shapes = CompilationConfig(batch_sizes=(4,), lengths=(16,))
    path = export(translator, tmp_path, shapes, "serving_default")
    found = SavedModel(path).run("serving_default", texts=np.array(TEXTS[:3], dtype=object))
    expected = translator.translate_texts(TEXTS[:3])
    assert found["text"].astype(str).tolist() == strings(expected["text"])


def test_what_is_not_compiled_is_refused(greedy, tmp_path):
    with pytest.raises(InputError, match="Only a translator"):
        export_saved_model(small_classifier(), tmp_path / "images", compilation=SHAPES)
    shortlist = Shortlist(lexicon_of(greedy), 30)
    short = Translator(greedy.model, greedy.tokenizer, greedy.decoding, shortlist)
    with pytest.raises(InputError, match="shortlist"):
        export_saved_model(short, tmp_path / "short", compilation=SHAPES)
    assert not list(tmp_path.iterdir())


@dataclasses.dataclass(frozen=True)
class InWords(Rule):
    """Computes with strings, which XLA does not have."""

    def apply(self, logits, context, state):
        length = tf.strings.length(tf.strings.as_string(context.index))
        return logits + 0.0 * tf.cast(length, tf.float32), state


def test_a_rule_that_xla_cannot_compile_is_refused_before_anything_is_written(greedy, tmp_path):
    translator = Translator(greedy.model, greedy.tokenizer, greedy.decoding, rules=[InWords()])
    with pytest.raises(InputError, match="XLA cannot compile the search: it has no AsString"):
        export_saved_model(translator, tmp_path, compilation=SHAPES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "bad", [{"lengths": ()}, {"lengths": 32}, {"batch_sizes": (0, 4)}, {"parts": 0}]
)
def test_settings_are_checked(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        CompilationConfig(**bad)
    assert CompilationConfig(batch_sizes=(8, 2, 8)).batch_sizes == (2, 8)


def test_the_command_compiles(run_folder, tmp_path, capfd):
    export = ["export", run_folder, "--output", tmp_path / "model"]
    message = refusal(capfd, *export, "--compile-lengths", 8)
    assert "--compile" in message
    assert "--shortlist" in refusal(capfd, *export, "--compile", "--shortlist", "no", "file")
    assert "--format saved_model" in refusal(capfd, *export, "--format", "tflite", "--compile")
    shapes = ["--compile-batch-sizes", "2", "--compile-lengths", "8", "16"]
    arguments = [*map(str, export), "--signatures", "serving_default", "--compile", *shapes]
    assert main(arguments) == 0
    path = tmp_path / "model" / "1"
    assert SavedModel(path).description.compilation == dataclasses.replace(SHAPES, batch_sizes=(2,))
    assert is_compiled(path)


def test_sizes_follow_from_the_number_of_weights(greedy):
    small, large = (CompilationConfig().resolved_for(n).sizes for n in (19_999_999, 10**8))
    assert max(small) < max(large)
    assert greedy.with_compilation(CompilationConfig()).compilation.sizes == small
    assert greedy.with_compilation(SHAPES).compilation.sizes == SHAPES.batch_sizes


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(1,), (16,), (2, 4), (1, 4, 8, 16, 32)])
def test_parts_have_room_for_all_and_none_is_idle(sizes, lanes):
    for rows in range(1, 100):
        count, size = (int(each) for each in split(tf.constant(rows), sizes, lanes))
        assert size in sizes
        assert count * size >= rows
        assert count == lanes or (count - 1) * size < rows


def shape_of(source):
    """Stands for a search: gives the first id of each source, and the shape that it ran in."""
    rows, length = tf.unstack(tf.cast(tf.shape(source), tf.float32))
    numbers = tf.fill([tf.shape(source)[0], 1], 0.0)
    return Hypotheses(source[:, None, :1], numbers + rows, source[:, :1], numbers + length)


def test_a_batch_runs_in_parts_of_like_length():
    lengths = [3, 30, 0, 12, 2, 31, 9, 1, 28, 4, 5, 29, 8, 7, 6, 27, 10, 26, 11]
    rows = [[i + 1] * length for i, length in enumerate(lengths)]
    source = tf.ragged.constant(rows, dtype=tf.int32).to_tensor()
    for parts in (1, 2, 3):
        shapes = CompilationConfig(batch_sizes=(2, 4), lengths=(4, 16, 32), parts=parts)
        limits = tf.ones([len(rows)], tf.int32)
        find = {"compiled": shape_of, "plain": shape_of, "limits": limits, "pad_id": 0}
        found = search_in_shapes(source, shapes, **find)
        # In the order of the batch: a text's first id is its number; without a token it has none.
        assert found.ids[:, 0, 0].numpy().tolist() == [
            i + 1 if n else 0 for i, n in enumerate(lengths)
        ]
        assert set(found.scores.numpy().ravel()) <= {2.0, 4.0}
        ran = sorted(zip(lengths, found.log_probabilities.numpy().ravel().tolist(), strict=True))
        shapes_by_length = [shape for _, shape in ran]
        assert shapes_by_length == sorted(shapes_by_length)
        assert {4.0, 16.0, 32.0} == set(shapes_by_length)


def test_ids_of_no_length(greedy, exported):
    for rows in (0, 1, 9):
        source = np.zeros([rows, 0], np.int32)
        found, expected = exported.run("ids", source=source), greedy.ids(source)
        assert found["ids"].tolist() == expected["ids"].numpy().tolist()
