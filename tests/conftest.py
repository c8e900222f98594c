"""One small trained run that all tests share: number words to digits."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

import contextlib
import ctypes
import gc
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from ktransformer.runtime.allocator import keep_freed_memory
from tests.small_run import number_pairs, train_arguments, write_pairs

keep_freed_memory()  # As `train` does.
# A shell's background process ignores Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# They come first, so that no process is left alone with one of them at the end.
_LONGEST = (
    "test_pages.py",
    "test_resuming.py",
    "test_killed_trainings.py",
    "test_train_command_on_jax.py",
    "test_served.py",
    "test_on_ray.py",
    "test_claims.py",
    "test_replicas.py",
    "test_train_on_ray.py",
    "test_cli_block_options.py",
    "test_mixtures.py",
    "test_noise.py",
    "test_package.py",
    "test_compare_checkouts.py",
    "test_training_on_jax.py",
    "test_train.py",
    "test_dates.py",
    "test_training.py",
    "test_streaming.py",
    "test_export.py",
    "test_quantization.py",
    "test_translators.py",
    "test_other_tasks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest before the others."""

    def place(item: pytest.Item) -> int:
        name = item.path.name
        return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)

    items.sort(key=place)


_END = time.monotonic() + 60 * float(os.environ.get("KTRANSFORMER_TEST_MINUTES", "inf"))


def pytest_runtest_setup() -> None:
    """Skips the tests that `KTRANSFORMER_TEST_MINUTES` leave no time for."""
    if time.monotonic() > _END:
        pytest.skip("KTRANSFORMER_TEST_MINUTES are over.")


def _collect_garbage() -> None:
    """Frees what is garbage, and leaves the rest out of every later collection.

    What is left is imported, or belongs to the process: it is never garbage. Millions of objects
    come together so, and each collection would look at all of them.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    _collect_garbage()


@pytest.fixture(scope="module", autouse=True)
def _give_memory_back() -> Iterator[None]:
    """Gives what a file's tests have freed back to the system, behind each file."""
    yield
    _collect_garbage()
    with contextlib.suppress(AttributeError, OSError):  # Not Linux.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def make_once(path: Path, make: Callable[[], None]) -> Path:
    """Makes a file or folder in the first test process that asks for it; the others wait."""
    with FileLock(f"{path}.lock"):
        if not path.exists():
            make()
    return path


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all test processes have in common."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def data_folder(shared_folder: Path) -> Path:
    """A folder with `train`, `validation` and `test`, each a `.source` and a `.target`."""
    folder = shared_folder / "numbers"

    def make() -> None:
        folder.mkdir()
        for name, count, seed in (("train", 3000, 1), ("validation", 60, 2), ("test", 60, 3)):
            write_pairs(folder, name, number_pairs(count, seed))

    return make_once(folder, make)


@pytest.fixture(scope="session")
def run_folder(data_folder: Path) -> Path:
    """The small run, trained by the command."""
    from ktransformer.cli import main

    output = data_folder / "run"
    validation = [str(data_folder / f"validation.{side}") for side in ("source", "target")]
    arguments = train_arguments(
        data_folder / "train.source",
        data_folder / "train.target",
        output,
        "--validation-source",
        validation[0],
        "--validation-target",
        validation[1],
    )

    def make() -> None:
        assert main(arguments) == 0

    return make_once(output, make)


@pytest.fixture
def run_copy(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small run that a test may damage."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


@pytest.fixture(scope="session")
def translator(run_folder: Path):
    """The small run's translator."""
    from ktransformer.saving.run import load_run
    from ktransformer.tasks import Translator

    run = load_run(run_folder)
    return Translator(run.model, run.tokenizer, run.config.decoding)


@pytest.fixture(scope="session")
def saved_model(run_folder: Path) -> Path:
    """The small run, exported by the command."""
    from ktransformer.cli import main

    output = run_folder.parent / "export"

    def make() -> None:
        assert main(["export", str(run_folder), "--output", str(output)]) == 0

    return make_once(output, make) / "1"


@pytest.fixture(scope="session")
def lite_file(run_folder: Path) -> Path:
    """The small run, exported by the command as a .tflite with all signatures."""
    from ktransformer.cli import main

    output = run_folder.parent / "numbers.tflite"
    labels = ["--source-label", "number words", "--target-label", "digits"]
    arguments = ["export", str(run_folder), "--format", "tflite", "--output", str(output)]

    def make() -> None:
        assert main([*arguments, *labels]) == 0

    return make_once(output, make)


@pytest.fixture(scope="session")
def ids_file(run_folder: Path, translator) -> Path:
    """The small run as a .tflite that takes no text; its tokenizer lies beside it."""
    from ktransformer.exporting import export_lite

    output = run_folder.parent / "ids.tflite"

    def make() -> None:
        export_lite(translator, output, signatures=["ids", "encode", "decode_step"])

    return make_once(output, make)


@pytest.fixture
def ids_copy(ids_file: Path, tmp_path: Path) -> Path:
    """A copy of `ids_file`, with a copy of its tokenizer beside it, that a test may damage."""
    shutil.copy(f"{ids_file}.tokenizer.model", tmp_path)
    return Path(shutil.copy(ids_file, tmp_path))


@pytest.fixture
def translate(tmp_path, monkeypatch, capfd):
    """Runs `translate` in this process on a text; returns its status, stdout and stderr."""

    from ktransformer.cli import main

    def run(text: str | bytes, *arguments: object) -> tuple[int, str, str]:
        (tmp_path / "input").write_bytes(text.encode() if isinstance(text, str) else text)
        with (tmp_path / "input").open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            capfd.readouterr()  # What fixtures printed.
            status = main(["translate", *map(str, arguments)])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run
