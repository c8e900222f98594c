"""The Marian folders that `make_marian.py` wrote, unpacked."""

import json
import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("marian.tar.xz")


def unpack(folder: Path) -> Path:
    """Unpacks the folders `relu` and `swish`, and marian.npz."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def change_json(path: Path, **values) -> None:
    """Sets values of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
