"""Tensors are read from safetensors and PyTorch files; no damaged or hostile file is trusted."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ktransformer.conversion.tensors import TensorReader
from ktransformer.errors import InputError

STORED = Path(__file__).parent / "pytorch_files"
_EXPECTED = {
    "half": np.array([[1.0, -2.5, 0.125]], "float32"),
    "bfloat16": np.array([1.0, 3.0], "float32"),
    "transposed": np.array([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]], "float32"),
    "parameter": np.array([0.5], "float32"),
    "first": np.array([[0.0, 1.0], [2.0, 3.0]], "float32"),
    "rest": np.arange(4.0, 12.0, dtype="float32"),
    "position_ids": np.arange(3),
    "scalar": np.array(7.0, "float32"),
    "empty": np.zeros((0, 4), "float32"),
}


def _folder(tmp_path: Path, content: bytes, name: str = "pytorch_model.bin") -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path


def _refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        TensorReader(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_a_file_of_pytorch_is_read_without_pytorch(name, tmp_path):
    reader = TensorReader(_folder(tmp_path, (STORED / name).read_bytes()))
    assert set(reader.names) == set(_EXPECTED)
    for each, expected in _EXPECTED.items():
        assert reader.shape(each) == expected.shape
        array = reader.read(each)
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_floats_of_safetensors_become_float32_and_integers_stay(tmp_path):
    tensors = {
        "half": np.array([0.5], "float16"),
        "bfloat16": np.array([3.0], ml_dtypes.bfloat16),
        "ids": np.array([1, 2]),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    reader = TensorReader(tmp_path)
    assert reader.dtype("half") == "float16"
    assert [reader.read(name).dtype.name for name in tensors] == ["float32", "float32", "int64"]
    assert reader.read("bfloat16") == [3.0]


def test_shards_are_read_through_their_index(tmp_path):
    save_file({"a": np.ones(2, "float32")}, tmp_path / "model-1.safetensors")
    save_file({"b": np.zeros(3, "float32")}, tmp_path / "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    reader = TensorReader(tmp_path)
    assert set(reader.names) == {"a", "b"}
    assert reader.read("b").shape == (3,)
    index["weight_map"]["c"] = "model-2.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "'c'" in _refusal(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    assert "model-2.safetensors, which is missing" in _refusal(tmp_path)


def test_a_damaged_shard_is_named_and_not_the_last_one(tmp_path):
    damaged = bytearray((STORED / "zip.bin").read_bytes())
    damaged[damaged.index(_EXPECTED["rest"].tobytes())] ^= 1  # Against its checksum.
    other = (STORED / "legacy.bin").read_bytes()
    for name in _EXPECTED:
        old, new = (struct.pack("<cI", b"X", len(x)) + x.encode() for x in (name, "_" + name[1:]))
        assert old in other
        other = other.replace(old, new)
    shards = {"model-1.bin": (bytes(damaged), ""), "model-2.bin": (other, "_")}
    index = {"weight_map": {}}
    for shard, (content, mark) in shards.items():
        (tmp_path / shard).write_bytes(content)
        index["weight_map"] |= {mark + name[len(mark) :]: shard for name in _EXPECTED}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    reader = TensorReader(tmp_path)
    np.testing.assert_array_equal(reader.read("_est"), _EXPECTED["rest"])
    with pytest.raises(InputError, match=r"model-1\.bin is damaged.*rest"):
        reader.read("rest")


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "model.pickle", 3])
def test_an_index_names_files_of_its_own_folder_alone(shard, tmp_path):
    index = {"weight_map": {"a": shard}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    _refusal(tmp_path)


def test_a_folder_without_tensors_is_refused(tmp_path):
    assert "model.safetensors" in _refusal(tmp_path)


def _safetensors(header: dict, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


_HUGE = {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        struct.pack("<Q", 2**60) + b"{}",
        _safetensors(_HUGE, b"1234"),
        _safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),
        _safetensors({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        b"\xff" * 100,
    ],
)
def test_a_damaged_safetensors_file_is_refused_before_memory_is_taken(content, tmp_path):
    assert "model.safetensors" in _refusal(_folder(tmp_path, content, "model.safetensors"))


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_every_cut_of_a_file_of_pytorch_is_refused(name, tmp_path):
    content = (STORED / name).read_bytes()
    for length in range(0, len(content), 37):
        _refusal(_folder(tmp_path, content[:length]))


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_no_changed_byte_ends_in_another_error_than_a_refusal(name, tmp_path):
    content = (STORED / name).read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x5A
        try:
            reader = TensorReader(_folder(tmp_path, bytes(changed)))
            for each in reader.names:
                reader.read(each)
        except InputError:
            continue


class _Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle was run')",))


def _legacy(content: object) -> bytes:
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(each, 2) for each in (*head, content, []))


def _zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("x/data.pkl", pickled)
    return file.getvalue()


@pytest.mark.parametrize("content", [_legacy(_Trap()), _zipped(pickle.dumps({"a": _Trap()}))])
def test_a_pickle_with_code_is_refused_and_not_run(content, tmp_path):
    assert "exec" in _refusal(_folder(tmp_path, content))


def test_a_whole_module_is_refused(tmp_path):
    content = (STORED / "module.bin").read_bytes()
    assert "torch.nn.modules.linear.Linear" in _refusal(_folder(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ((STORED / "number.bin").read_bytes(), "'step'"),
        (_zipped(pickle.dumps([1, 2])), "list"),
        (_zipped(pickle.dumps({}), zipfile.ZIP_DEFLATED), "compressed"),
        (_zipped(b"\x80\x02\x96" + struct.pack("<Q", 2**62) + b"."), "damaged"),
        (_zipped(b"\x80\x02" + b"(" * 10**5 + b"."), "damaged"),
        (b"PK\x03\x04", "damaged"),
        (b"\x80\x02", "damaged"),
    ],
)
def test_other_contents_are_refused(content, named, tmp_path):
    assert named in _refusal(_folder(tmp_path, content))


def test_a_tensor_over_the_end_of_its_numbers_is_refused(tmp_path):
    content = (STORED / "zip.bin").read_bytes()
    # The shape (2, 2) of `first`, in the pickle, becomes (2, 200).
    place = content.index(b"first")
    old = b"K\x02K\x02\x86"
    start = content.index(old, place)
    changed = content[:start] + b"K\x02K\xc8\x86" + content[start + len(old) :]
    assert "damaged" in _refusal(_folder(tmp_path, changed))
