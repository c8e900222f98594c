"""Opens models in any form: a folder, a SavedModel, a .tflite or one of another library."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ktransformer.engines.engine import Engine
from ktransformer.engines.lite import LiteEngine
from ktransformer.errors import InputError
from ktransformer.exporting.lite.model import LiteModel
from ktransformer.exporting.lite.plan import MAX_REPLICAS
from ktransformer.numbers import to_integer
from ktransformer.runtime.threads import available_cores

if TYPE_CHECKING:  # The other forms need TensorFlow or Keras; a .tflite may do without.
    from ktransformer.conversion.ctranslate2 import CTranslate2Model
    from ktransformer.conversion.onnx_model import OnnxModel
    from ktransformer.engines.task_model import TaskModel
    from ktransformer.exporting import SavedModel


def open_model(
    path: str | Path, *, threads: int | None = None, replicas: int = 1, check: bool = True
) -> "TaskModel | SavedModel | LiteModel | CTranslate2Model | OnnxModel":
    """Opens a model of any kind in any form, to run its signatures by name.

    Args:
        path: A model's folder, a SavedModel's folder, a .tflite file, a CTranslate2, ONNX or
            published folder.
        threads: CPU threads of CTranslate2 and ONNX Runtime, None for one a core; and of LiteRT,
            None to choose by the model's size. TensorFlow's are set for the process, by
            `tf.config.threading`.
        replicas: Interpreters of a .tflite, or batches of CTranslate2, each for a call at a time.
        check: As for `load_engine`.

    Returns:
        An object with `description`, `inputs(signature)` and `run(signature, **inputs)`.

    Raises:
        InputError: It is none of these, or damaged, or a SavedModel that could do more than an
            export does; or `threads` or `replicas` is below 1.

    Example:
        ```python
        model = open_model("digits.tflite")
        model.run("serving_default", images=images)["class"]
        ```
    """
    path = _check_exists(path)
    if path.is_file():
        return LiteModel(path, threads=threads, replicas=replicas, check=check)

    from ktransformer.conversion import is_published, load
    from ktransformer.conversion.ctranslate2 import CTranslate2Model, is_ctranslate2
    from ktransformer.conversion.onnx_model import OnnxModel, is_onnx
    from ktransformer.engines.task_model import PublishedModel, TaskModel
    from ktransformer.exporting.saved_model.opened import SavedModel

    if is_ctranslate2(path):
        threads = threads or available_cores()
        return CTranslate2Model(path, threads=threads, replicas=replicas, check=check)
    if is_onnx(path):
        return OnnxModel(path, threads=threads or available_cores(), check=check)
    if _is_export(path):
        return SavedModel(path, check=check)
    if is_published(path):
        return PublishedModel(load(path), path)
    return TaskModel(load(path, check=check), path)


def load_engine(
    path: str | Path,
    *,
    adapter: str | Path | None = None,
    beam_size: int | None = None,
    length_penalty: float | None = None,
    copy: Sequence[str] | None = None,
    tag: str | None = None,
    threads: int | None = None,
    concurrency: int | None = None,
    check: bool = True,
) -> Engine:
    """Opens a translator in any form; see `open_model`.

    Each process opens its own: see `Engine`, for a fork hangs once TensorFlow has run.

    Args:
        path: The folder or file.
        adapter: A LoRA adapter of the run, see `ktransformer.saving.adapter`; an export has none.
        beam_size: Another beam size than the run's; an export's is fixed.
        length_penalty: Likewise.
        copy: Likewise, what translations keep as it is.
        tag: A tag to put before every text; see `Engine.translate_n_best`.
        threads: CPU threads of LiteRT, CTranslate2 and ONNX Runtime for a batch; None for as many
            as there are cores. TensorFlow's are set for the process, by `tf.config.threading`.
        concurrency: Batches that `translate_blocks` and `translate_lines` run at the same time,
            on `threads` threads each; of a .tflite at most 8, which share the threads of the rest.
            None for one. A .tflite with neither `threads` nor `concurrency` chooses both by its
            size: see `LiteEngine`.
        check: Whether the files are compared with the checksums that were written with them, and
            a SavedModel's operations with those that an export has.

    Raises:
        InputError: It is none of these, or damaged, or fixed to another beam size or length
            penalty, or a SavedModel that could do more than an export does; or `threads` or
            `concurrency` is below 1.
    """
    path = _check_exists(path)
    if concurrency is not None:
        concurrency = to_integer("concurrency", concurrency, least=1)
    threads = None if threads is None else to_integer("threads", threads, least=1)
    if adapter is not None and (path.is_file() or _is_other_export(path)):
        raise InputError(f"An adapter goes with a run; got {adapter} and an export, {path}.")
    kinds = None if copy is None else tuple(copy)
    decoding = {"beam_size": beam_size, "length_penalty": length_penalty, "copy": kinds}
    if path.is_file():
        engine: Engine = _open_lite(path, threads, concurrency, check=check)
    elif _is_other_export(path):
        engine = _open_export(path, threads, concurrency or 1, check=check)
    else:
        from ktransformer.conversion import load
        from ktransformer.engines.model_engine import ModelEngine
        from ktransformer.tasks.folder import as_translator

        task = load(path, check=check, adapter=adapter, tag=tag, **decoding)
        engine = ModelEngine(as_translator(task, path))
        engine.concurrency = concurrency or 1
        return engine
    for name, value in decoding.items():
        fixed = getattr(engine.description.decoding, name)
        if value not in (None, fixed):
            raise InputError(
                f"{path} was exported with a {name.replace('_', ' ')} of {_shown(fixed)}; another "
                f"one ({_shown(value)}) takes another export."
            )
    if tag is not None:
        engine.set_tag(tag)
    return engine


def _shown(setting: object) -> str:
    """Writes a setting of the decoding, such as a number or the kinds of spans to copy."""
    return (", ".join(setting) or "nothing") if isinstance(setting, tuple) else str(setting)


def _check_exists(path: str | Path) -> Path:
    if not Path(path).exists():
        raise InputError(f"{path}: there is no such file or folder.")
    return Path(path)


def _open_lite(
    path: Path, threads: int | None, concurrency: int | None, *, check: bool
) -> LiteEngine:
    if threads is None and concurrency is None:
        return LiteEngine(path, check=check)
    concurrency = concurrency or 1
    replicas = min(concurrency, MAX_REPLICAS)
    threads = (threads or available_cores()) * concurrency // replicas
    return LiteEngine(path, threads=threads, replicas=replicas, check=check)


def _open_export(path: Path, threads: int | None, concurrency: int, *, check: bool) -> Engine:
    from ktransformer.conversion.ctranslate2 import is_ctranslate2
    from ktransformer.conversion.onnx_model import is_onnx
    from ktransformer.engines.converted import CTranslate2Engine, OnnxEngine
    from ktransformer.engines.saved_model import SavedModelEngine

    threads = threads or available_cores()
    if is_ctranslate2(path):
        return CTranslate2Engine(path, threads=threads, replicas=concurrency, check=check)
    engine: Engine
    if is_onnx(path):
        engine = OnnxEngine(path, threads=threads, check=check)
    else:
        engine = SavedModelEngine(path, check=check)
    engine.concurrency = concurrency
    return engine


def _is_other_export(path: Path) -> bool:
    """Tells whether a folder is an export: a SavedModel, or one for another library."""
    from ktransformer.conversion.ctranslate2 import is_ctranslate2
    from ktransformer.conversion.onnx_model import is_onnx

    return is_ctranslate2(path) or is_onnx(path) or _is_export(path)


def _is_export(path: Path) -> bool:
    from ktransformer.exporting.saved_model.opened import is_saved_model
    from ktransformer.saving.folder import is_model_folder

    return is_saved_model(path) and not is_model_folder(path)
