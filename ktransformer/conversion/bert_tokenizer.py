"""BERT's tokenizer in: `tokenizer.json`, or `vocab.txt` with `tokenizer_config.json`."""

from typing import Any

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.tokenizer_files import (
    HARMLESS,
    OTHER_IDS,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    TokenizerFiles,
)
from ktransformer.errors import InputError, brief
from ktransformer.text import WordPieceTokenizer

_VOCABULARY = "vocab.txt"
_NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_CLASSES = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
_HARMLESS = (
    "bos_token",
    "clean_up_tokenization_spaces",  # Of decoded texts.
    "eos_token",
    "full_tokenizer_file",
    "init_inputs",
    "model_max_length",  # Read below: it may be a float without meaning.
)
_PAIR = [  # The template of two texts, and up to the first [SEP] that of one.
    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    {"Sequence": {"id": "B", "type_id": 1}},
    {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
]
_MOST_LENGTH = 10**9  # A larger number stands for no limit.


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
    files = TokenizerFiles.read(folder, problems)
    config, fast = files.config, files.fast
    max_length, lowercase, strip_accents = _read_config(config, problems)
    _check_tokens(files, problems)
    pieces = _read_vocabulary(folder, problems)
    if fast:
        settings = _read_fast(fast, problems, mask=mask)
        given = _ordered(_object(fast, "model").get("vocab"), problems)
        if pieces is not None and given is not None and pieces != given:
            problems.add(f"{_VOCABULARY} and {TOKENIZER_JSON} hold different vocabularies")
        for name, one, other in zip(
            ("do_lower_case", "strip_accents"), (lowercase, strip_accents), settings, strict=True
        ):
            if name in config and one != other:
                problems.add(f"{TOKENIZER_CONFIG} has {name}={one}, but {TOKENIZER_JSON} {other}")
        pieces = given if pieces is None else pieces
        lowercase, strip_accents = settings
    if pieces is None:
        problems.add(f"it has no tokenizer: neither {TOKENIZER_JSON} nor {_VOCABULARY}")
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


def _read_config(
    config: dict[str, Any], problems: Problems
) -> tuple[int | None, bool, bool | None]:
    """Returns the longest text, and whether letters lose their case and their accents."""
    settings = Settings(config, problems, TOKENIZER_CONFIG)
    settings.require("tokenizer_class", *_CLASSES, None, why=OTHER_IDS)
    settings.require("never_split", None, [], why=OTHER_IDS)
    settings.require("do_basic_tokenize", True, why=OTHER_IDS)
    settings.require("tokenize_chinese_chars", True, why=OTHER_IDS)
    settings.require("padding_side", "right", why="positions would begin elsewhere")
    settings.require("truncation_side", "right", why="the start of a long text would be cut")
    settings.require("clean_text", True, why=OTHER_IDS)
    settings.require("wordpieces_prefix", "##", why=OTHER_IDS)
    settings.require("split_special_tokens", False, None, why="[MASK] would be no mask")
    settings.ignore("strip_accents", *_NAMES, *_HARMLESS, *HARMLESS)
    length = config.get("model_max_length")
    known = type(length) is int and 0 < length < _MOST_LENGTH
    lowercase = settings.take_bool("do_lower_case", default=True)
    settings.finish()
    accents = config.get("strip_accents")
    if accents not in (None, True, False):
        problems.add(
            f"{TOKENIZER_CONFIG} has strip_accents={brief(accents)}, which must be true or false"
        )
    return (length if known else None), lowercase, accents


def _check_tokens(files: TokenizerFiles, problems: Problems) -> None:
    """Checks that the special tokens have BERT's names, and that no others are added."""
    for name, expected in _NAMES.items():
        found = files.special_token(name, expected)
        if found != expected:
            problems.add(f"its {name} is {brief(found)}, which must be {expected}")
    for origin, text, _ in files.added_tokens():
        if text not in _NAMES.values():
            problems.add(f"{origin} adds the token {brief(text)}, which is unknown here")


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
        problems.add(f"{TOKENIZER_JSON} holds no vocabulary: a JSON object of ids")
        return None
    pieces = sorted(vocabulary, key=lambda piece: int(vocabulary[piece]))
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        problems.add(f"{TOKENIZER_JSON} has a vocabulary with holes: its ids must be 0, 1, 2, ...")
        return None
    return pieces


def _read_fast(fast: dict[str, Any], problems: Problems, *, mask: bool) -> tuple[bool, bool | None]:
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
                    f"{TOKENIZER_JSON} has {part}.{name}={brief(got)}, which must be "
                    f"{brief(value)}: {OTHER_IDS}"
                )
    _check_marks(fast, problems)
    if mask:
        _check_mask(fast, problems)
    normalizer = _object(fast, "normalizer")
    settings = Settings(normalizer, problems, TOKENIZER_JSON)
    accents = normalizer.get("strip_accents")
    if accents not in (None, True, False):
        problems.add(
            f"{TOKENIZER_JSON} has strip_accents={brief(accents)}, which must be true or false"
        )
        accents = None
    return settings.take_bool("lowercase", default=True), accents


def _object(fast: dict[str, Any], part: str) -> dict[str, Any]:
    """Returns a part of `tokenizer.json`; {} where it is missing or no object."""
    found = fast.get(part)
    return found if isinstance(found, dict) else {}


def _check_marks(fast: dict[str, Any], problems: Problems) -> None:
    """Checks that a text gets `[CLS]` and `[SEP]` as in BERT, and so does a pair of texts."""
    processor = _object(fast, "post_processor")
    vocabulary = _object(_object(fast, "model"), "vocab")
    marks = {name: vocabulary.get(name) for name in ("[CLS]", "[SEP]")}
    if processor.get("type") == "BertProcessing":
        known = [processor.get("cls"), processor.get("sep")] == [[*mark] for mark in marks.items()]
    else:
        special = _object(processor, "special_tokens")
        known = (
            processor.get("type") == "TemplateProcessing"
            and processor.get("single") == _PAIR[:3]
            and processor.get("pair") == _PAIR
            and all(_object(special, name).get("ids") == [i] for name, i in marks.items())
        )
    if not known:
        problems.add(
            f"{TOKENIZER_JSON} has post_processor={brief(fast.get('post_processor'))}, which must "
            f"make [CLS] A [SEP] of a text and [CLS] A [SEP] B [SEP] of two: {OTHER_IDS}"
        )


def _check_mask(fast: dict[str, Any], problems: Problems) -> None:
    """Checks that `[MASK]` is found in a text as it is, wherever it stands.

    Spaces beside it, of which other flags tell, make no piece in any case.
    """
    tokens = fast.get("added_tokens")
    for token in tokens if isinstance(tokens, list) else []:
        if not isinstance(token, dict) or token.get("content") != _NAMES["mask_token"]:
            continue
        for flag in ("normalized", "single_word"):
            if token.get(flag):
                problems.add(f"{TOKENIZER_JSON} has {flag}=true for [MASK]: {OTHER_IDS}")
