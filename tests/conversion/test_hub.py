"""`hf://OWNER/NAME`: what is brought from a hub, here one that copies from a folder."""

import fnmatch
import shutil
import sys
import types

import pytest

from ktransformer.conversion.hub import fetch
from ktransformer.errors import InputError

COMMON = {"config.json", "vocab.json", "source.spm", "merges.txt"}
SAFETENSORS = {"model.safetensors"}
SHARDS = {"model.safetensors.index.json", "model-00001-of-00001.safetensors"}
PYTORCH = {"pytorch_model.bin"}
PYTORCH_SHARDS = {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"}
OTHER = {"modeling.py", "onnx/model.onnx", "onnx/model.safetensors", "model.fp16.safetensors"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A huggingface_hub whose one model has the files that `publish` is given."""
    published, cache, fetched = tmp_path / "hub", tmp_path / "cache", []

    def publish(names):
        for name in names:
            (published / name).parent.mkdir(parents=True, exist_ok=True)
            (published / name).write_text(name)

    def snapshot_download(repository, *, revision, allow_patterns):
        if (repository, revision) != ("owner/name", "v1"):
            raise OSError(f"404: {repository}\nmore of it")
        cache.mkdir(exist_ok=True)
        for path in published.rglob("*.*"):
            name = path.relative_to(published).as_posix()
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                fetched.append(name)
                (cache / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, cache / name)
        return str(cache)

    module = types.ModuleType("huggingface_hub")
    module.__spec__ = types.SimpleNamespace()
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return types.SimpleNamespace(publish=publish, fetched=fetched, folder=cache)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (SAFETENSORS, SAFETENSORS),
        (PYTORCH, PYTORCH),
        (SAFETENSORS | PYTORCH, SAFETENSORS),
        (SHARDS | PYTORCH, SHARDS),
        (PYTORCH_SHARDS, PYTORCH_SHARDS),
    ],
)
def test_weights_are_brought_once_in_one_format(hub, weights, expected):
    hub.publish(COMMON | OTHER | weights)
    assert fetch("hf://owner/name@v1") == hub.folder
    assert sorted(hub.fetched) == sorted(COMMON | expected)


def test_what_the_hub_lacks_is_one_sentence(hub):
    with pytest.raises(InputError, match=r"hf://owner/other@v1 .* 404: owner/other$"):
        fetch("hf://owner/other@v1")
