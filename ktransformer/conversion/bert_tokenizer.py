"""BERT's tokenizer in: `tokenizer.json`, or `vocab.txt` with `tokenizer_config.json`."""

from typing import Any

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.settings import Settings
from ktransformer.errors import InputError, brief
from ktransformer.text import WordPieceTokenizer

_JSON, _CONFIG, _SPECIAL, _VOCABULARY = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
_NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_CLASSES = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
_MOST_LENGTH = 10**9  # A larger number stands for no limit.
_OTHER_WORDS = "texts would become other ids"


def read_word_pieces(
    folder: PublishedFolder, problems: Problems, vocabulary_size: int, *, mask: bool
) -> tuple[Any, int | None]:
    """Reads the tokenizer of a BERT model.

    Args:
        folder: The folder.
        problems: Gets a sentence for each setting that would give other ids.
        vocabulary_size: The number of the model's ids. Those that the tokenizer lacks get pieces
            that no text is encoded into.
        mask: Whether `[MASK]` in a text is the mask.

    Returns:
        The `WordPieceTokenizer`, None where there is a problem; and the longest text, in tokens,
        or None.
    """
    config = _read_object(folder, _CONFIG, problems)
    max_length, lowercase, strip_accents = _read_config(config, problems)
    _check_names({**_read_object(folder, _SPECIAL, problems), **config}, problems)
    fast = _read_object(folder, _JSON, problems)
    pieces = _read_vocabulary(folder, problems)
    if fast:
        settings = _read_fast(fast, problems)
        given = _ordered(fast["model"].get("vocab"), problems) if "model" in fast else None
        if pieces is not None and given is not None and pieces != given:
            problems.add(f"{_VOCABULARY} and {_JSON} hold different vocabularies")
        for name, one, other in zip(
            ("do_lower_case", "strip_accents"), (lowercase, strip_accents), settings, strict=True
        ):
            if name in config and one != other:
                problems.add(f"{_CONFIG} has {name}={one}, but {_JSON} {other}")
        pieces = given if pieces is None else pieces
        lowercase, strip_accents = settings
    if pieces is None:
        problems.add(f"it has no tokenizer: neither {_JSON} nor {_VOCABULARY}")
        return None, max_length
    if len(pieces) > vocabulary_size:
        problems.add(f"its tokenizer has {len(pieces)} pieces, but the model {vocabulary_size} ids")
    pieces += [f"[vacant{i}]" for i in range(len(pieces), min(vocabulary_size, len(pieces) + 4096))]
    try:
        tokenizer = WordPieceTokenizer.from_vocabulary(
            pieces, lowercase=lowercase, strip_accents=strip_accents, mask=mask
        )
    except InputError as error:
        problems.add(str(error).rstrip("."))
        return None, max_length
    return tokenizer, max_length


def _read_object(folder: PublishedFolder, name: str, problems: Problems) -> dict[str, Any]:
    values = folder.read_json(name)
    if values is not None and not isinstance(values, dict):
        problems.add(f"{name} is damaged: it holds no JSON object")
    return values if isinstance(values, dict) else {}


def _read_config(
    config: dict[str, Any], problems: Problems
) -> tuple[int | None, bool, bool | None]:
    """Returns the longest text, and whether letters lose their case and their accents."""
    settings = Settings(config, problems, _CONFIG)
    settings.require("tokenizer_class", *_CLASSES, None, why=_OTHER_WORDS)
    settings.require("never_split", None, [], why=_OTHER_WORDS)
    settings.require("do_basic_tokenize", True, why=_OTHER_WORDS)
    settings.require("tokenize_chinese_chars", True, why=_OTHER_WORDS)
    settings.require("padding_side", "right", why="positions would begin elsewhere")
    settings.require("truncation_side", "right", why="the start of a long text would be cut")
    settings.require("additional_special_tokens", [], None, why=_OTHER_WORDS)
    length = config.get("model_max_length")
    known = type(length) is int and 0 < length < _MOST_LENGTH
    lowercase = settings.take_bool("do_lower_case", default=True)
    accents = config.get("strip_accents")
    if accents not in (None, True, False):
        problems.add(f"{_CONFIG} has strip_accents={brief(accents)}, which must be true or false")
    return (length if known else None), lowercase, accents


def _check_names(config: dict[str, Any], problems: Problems) -> None:
    """Checks that the special tokens have BERT's names, and that there are no others."""
    for name, expected in _NAMES.items():
        found = config.get(name, expected)
        found = found.get("content") if isinstance(found, dict) else found
        if found != expected:
            problems.add(f"its {name} is {brief(found)}, which must be {expected}")
    added = config.get("added_tokens_decoder") or {}
    _check_added(added.values() if isinstance(added, dict) else [None], _CONFIG, problems)


def _check_added(tokens: Any, origin: str, problems: Problems) -> None:
    names = [each.get("content") if isinstance(each, dict) else None for each in tokens]
    others = [name for name in names if name not in _NAMES.values()]
    if others:
        problems.add(f"{origin} adds the tokens {brief(others)}, which are unknown here")


def _read_vocabulary(folder: PublishedFolder, problems: Problems) -> list[str] | None:
    path = folder.file(_VOCABULARY)
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problems.add(f"{_VOCABULARY} is damaged: it is not UTF-8")
        return None
    return text.removesuffix("\n").split("\n")  # Not splitlines: pieces may hold other line ends.


def _ordered(vocabulary: Any, problems: Problems) -> list[str] | None:
    """Returns the pieces of a table of ids, in the order of their ids."""
    if not isinstance(vocabulary, dict) or not all(type(i) is int for i in vocabulary.values()):
        problems.add(f"{_JSON} holds no vocabulary: a JSON object of ids")
        return None
    pieces = sorted(vocabulary, key=lambda piece: int(vocabulary[piece]))
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        problems.add(f"{_JSON} has a vocabulary with holes: its ids must be 0, 1, 2, ...")
        return None
    return pieces


def _read_fast(fast: dict[str, Any], problems: Problems) -> tuple[bool, bool | None]:
    """Checks what `tokenizer.json` does with a text; returns the settings of its normaliser."""
    expected: dict[str, dict[str, Any]] = {
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }
    for part, fields in expected.items():
        found = fast.get(part)
        for name, value in fields.items():
            got = found.get(name, value) if isinstance(found, dict) else None
            if got != value:
                problems.add(
                    f"{_JSON} has {part}.{name}={brief(got)}, which must be {brief(value)}: "
                    f"{_OTHER_WORDS}"
                )
    added = fast.get("added_tokens", [])
    _check_added(added if isinstance(added, list) else [None], _JSON, problems)
    normalizer = fast.get("normalizer")
    settings = Settings(normalizer if isinstance(normalizer, dict) else {}, problems, _JSON)
    strip = normalizer.get("strip_accents") if isinstance(normalizer, dict) else None
    return settings.take_bool("lowercase", default=True), strip
