import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.fitting import Resume, TrainingState, train
from tests.fitting.small_training import EVERY_UPDATE, TEXT, small, state_of


def test_a_damaged_state_is_named(after_an_epoch, tmp_path):
    whole = (after_an_epoch / "training.npz").read_bytes()
    (tmp_path / "training.npz").write_bytes(whole[:1000])
    with pytest.raises(InputError, match=r"training\.npz"):
        train(small(**EVERY_UPDATE), TEXT, checkpoints=tmp_path, start=Resume())


@pytest.mark.parametrize("what", ["missing", "cut", "of other shapes", "NaN", "no archive"])
def test_a_damaged_file_of_an_epoch_is_found_before_a_training_goes_on(
    what, after_an_epoch, tmp_path
):
    folder = shutil.copytree(after_an_epoch, tmp_path / "c")
    path = folder / "epoch-0001.npz"
    with np.load(path) as file:
        arrays = [file[name] for name in file.files]
    content = path.read_bytes()
    path.unlink()
    if what == "of other shapes":
        np.savez(path, *arrays[:-1])
    elif what == "NaN":
        np.savez(path, *arrays[:-1], np.full_like(arrays[-1], np.nan))
    elif what != "missing":
        path.write_bytes(content[:-500] if what == "cut" else b"no archive")
    with pytest.raises(InputError, match=r"epoch-0001\.npz"):
        train(
            small(**{**EVERY_UPDATE, "epochs": 2}), TEXT, TEXT, checkpoints=folder, start=Resume()
        )


@pytest.mark.parametrize(
    "change",
    [
        {"update": "3"},
        {"update": -1},
        {"update": 2},
        {"history": [1, 2]},
        {"history": {"loss": "0.5"}},
        {"history": {}},
        {"about": None},
        {"about": {}},
        {"format_version": "1"},
        {"format_version": None},
        {"variables": 10**6},
        {"variables": 3},
    ],
    ids=str,
)
def test_a_crafted_head_of_a_state_is_refused(change, after_an_epoch, tmp_path):
    head, *arrays = state_of(after_an_epoch)
    folder = shutil.copytree(after_an_epoch, tmp_path / "c")
    head = json.dumps({**json.loads(head.tobytes()), **change}).encode()
    np.savez(folder / "training.npz", np.frombuffer(head, "uint8"), *arrays)
    with pytest.raises(InputError, match=r"training\.npz"):
        train(
            small(**{**EVERY_UPDATE, "epochs": 2}), TEXT, TEXT, checkpoints=folder, start=Resume()
        )


def crafted_archive(path: Path, member: str, content: bytes, compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(member, content)


def array_of(header: str, data: bytes = b"") -> bytes:
    """The bytes of an .npy file with a header of one's own."""
    line = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + data


@pytest.mark.parametrize(
    ("member", "content", "compression"),
    [
        ("arr_0.npy", array_of("{'descr':'|u1','fortran_order':False,'shape':(10**13,)}"), 0),
        ("arr_0.npy", array_of("{'descr':'|u1','fortran_order':False,'shape':(9999999999,)}"), 0),
        (
            "arr_0.npy",
            array_of("{'descr':'|O','fortran_order':False,'shape':(1,)}", bytes(8)),
            0,
        ),
        ("arr_0.npy", array_of("(" * 90), 0),
        ("arr_0.npy", b"", 0),
        ("arr_0.npy", bytes(10**7), zipfile.ZIP_DEFLATED),
        ("thesis.txt", b"precious", 0),
        ("arr_0.npy", array_of("{'descr':'|u1','fortran_order':False,'shape':(8,)}", b"[" * 8), 0),
        (
            "arr_0.npy",
            array_of("{'descr':'|u1','fortran_order':False,'shape':(99999,)}", b"[" * 99_999),
            0,
        ),
    ],
    ids=["power", "huge", "object", "nested", "empty", "bomb", "other", "no JSON", "deep JSON"],
)
def test_a_crafted_state_is_refused(member, content, compression, tmp_path):
    crafted_archive(tmp_path / "training.npz", member, content, compression)
    with pytest.raises(InputError, match=r"training\.npz"):
        TrainingState(tmp_path / "training.npz").read()
