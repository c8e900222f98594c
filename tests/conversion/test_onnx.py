"""The step of decoding as ONNX; the packages are no dependency, not even of the tests."""

import re
import sys

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.config import DecodingConfig
from ktransformer.conversion.onnx import export_onnx
from ktransformer.engines import OnnxEngine, load_engine
from ktransformer.errors import InputError
from tests.run_command import refusal
from tests.small_models import small_filler
from tests.small_run import number_pairs
from tests.small_translator import TEXTS, drawn_translator

OPTIONS = [
    {},
    {"norm_first": True, "norm": "rms", "feed_forward": "swiglu", "positions": "rotary"},
    {"num_kv_heads": 2, "positions": "alibi", "output_bias": True, "tie_embeddings": False},
    {"positions": "relative", "activation": "silu", "source_vocabulary_size": 1},
]


def test_missing_packages_are_named(run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    output = ["--format", "onnx", "--output", tmp_path / "model"]
    assert re.search(r"ktransformer\[onnx\]", refusal(capsys, "export", run_folder, *output))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_loop_over_the_steps_gives_the_ids_of_greedy_search(options, tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    translator = drawn_translator(
        DecodingConfig(beam_size=1, max_length_ratio=0, max_length_offset=7), **options
    )
    path = export_onnx(translator, tmp_path / "model")
    encode, step = (
        runtime.InferenceSession(path / f"{name}.onnx") for name in ("encode", "decode_step")
    )

    def run(session, **inputs):
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    source = translator.to_ids(["one two", "seven", "four four nine two"]).numpy()
    state = run(encode, source=source)
    assert state.pop("limits").tolist() == [7, 7, 7]
    special = translator.target_tokenizer.special_ids
    ids, found = np.full(3, special.start, np.int32), []
    for index in range(6):
        outputs = run(step, ids=ids, index=np.asarray(index, np.int32), **state)
        state |= {key: outputs[f"next_{key}"] for key in state if key.startswith("cache")}
        outputs["logits"][:, [special.pad, special.start, special.unknown]] = -np.inf
        ids = outputs["logits"].argmax(axis=1).astype(np.int32)
        found.append(ids)
    expected = translator.ids(source)["ids"].numpy()[:, :6]
    for row, wanted in zip(np.transpose(found), expected, strict=True):
        length = (wanted != special.pad).sum()
        assert row[:length].tolist() == wanted[:length].tolist()


def test_an_operation_without_a_counterpart_is_named(tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match=r"encode.*(?i:gelu|erfc)"):
        export_onnx(drawn_translator(activation="gelu"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_model_is_refused(tmp_path):
    pytest.importorskip("tf2onnx")
    with pytest.raises(InputError, match="masked language model"):
        export_onnx(small_filler(), tmp_path / "model")


def test_the_folder_gives_the_texts_and_scores_of_the_run(run_folder, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    output = tmp_path / "model"
    assert main(["export", str(run_folder), "--format", "onnx", "--output", str(output)]) == 0
    texts = [*TEXTS, *(source for source, _ in number_pairs(100, seed=5))]
    ours, theirs = load_engine(run_folder), load_engine(output)
    assert type(theirs) is OnnxEngine
    expected, got = ours.translate_n_best(texts, n_best=2), theirs.translate_n_best(texts, n_best=2)
    for line, other in zip(expected, got, strict=True):
        assert (other.texts, other.truncated) == (line.texts, line.truncated)
        assert other.scores == pytest.approx(line.scores, abs=1e-3)


def test_verify_compares_it_with_the_run(run_folder, data_folder, tmp_path, capsys):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    output = tmp_path / "model"
    assert main(["export", str(run_folder), "--format", "onnx", "--output", str(output)]) == 0
    verify = ["verify", output, "--run", run_folder, "--source", data_folder / "test.source"]
    assert main([*map(str, verify)]) == 0
    assert re.search("serving_default .* ONNX .* 1.0000 ", capsys.readouterr().out)


def test_a_damaged_folder_is_refused(run_folder, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    output = tmp_path / "model"
    assert main(["export", str(run_folder), "--format", "onnx", "--output", str(output)]) == 0
    content = bytearray((output / "encode.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (output / "encode.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"encode\.onnx"):
        load_engine(output)
