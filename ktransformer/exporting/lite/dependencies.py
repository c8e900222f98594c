"""Whether a .tflite needs TensorFlow."""

from pathlib import Path

from ktransformer.errors import InputError
from ktransformer.exporting.lite.companions import target_tokenizer_beside, tokenizer_beside
from ktransformer.exporting.lite.model_file import read_custom_operations, read_metadata
from ktransformer.files.checksums import parse_json
from ktransformer.tasks.translator_description import TranslatorDescription
from ktransformer.text.processor_tokenizer import ProcessorTokenizer


def needs_tensorflow(path: str | Path) -> bool:
    """Tells whether an engine of a .tflite imports TensorFlow; True for a file that is none."""
    try:
        about = parse_json(read_metadata(path), path)
        if (
            not isinstance(about, dict)
            or about.get("kind") != TranslatorDescription.kind
            or read_custom_operations(path)
        ):
            return True
        beside = [tokenizer_beside(path)]
        if about.get("target_tokenizer_sha256") is not None:
            beside.append(target_tokenizer_beside(path))
        return not all(
            each.is_file() and ProcessorTokenizer.open(each.read_bytes()) for each in beside
        )
    except (InputError, ValueError):
        return True
