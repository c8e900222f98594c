"""The JSON files of a published tokenizer: its settings, and the tokens added to its vocabulary."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems

TOKENIZER_CONFIG, TOKENIZER_JSON = "tokenizer_config.json", "tokenizer.json"
_SPECIAL, _ADDED = "special_tokens_map.json", "added_tokens.json"
OTHER_IDS = "texts would become other ids"
_LISTS = (
    "additional_special_tokens",
    "extra_special_tokens",
    "model_specific_special_tokens",
)
HARMLESS = (
    "added_tokens_decoder",
    *_LISTS,
    "auto_map",
    "backend",
    "chat_template",
    "is_local",
    "local_files_only",
    "max_len",
    "max_length",
    "model_input_names",
    "name_or_path",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "processor_class",
    "special_tokens_map_file",
    "stride",
    "tokenizer_file",
    "truncation_strategy",
    "trust_remote_code",
    "use_fast",
    "vocab_file",
)
"""Settings of tokenizer_config.json that change no ids, and those that `added_tokens` reads."""


class AddedToken(NamedTuple):
    """A token that Hugging Face finds in a text before the vocabulary is asked.

    Attributes:
        origin: The name of the file.
        text: The token; None where the file is damaged.
        number: Its id; None where the file does not say it.
    """

    origin: str
    text: Any
    number: Any = None


class TokenizerFiles(NamedTuple):
    """The JSON objects of a tokenizer's files; {} for a file that is not there.

    Attributes:
        config: That of tokenizer_config.json.
        special: That of special_tokens_map.json.
        added: That of added_tokens.json.
        fast: That of tokenizer.json.
    """

    config: dict[str, Any]
    special: dict[str, Any]
    added: dict[str, Any]
    fast: dict[str, Any]

    @classmethod
    def read(cls, folder: PublishedFolder, problems: Problems) -> "TokenizerFiles":
        """Reads the files of a folder; a file that is no JSON object becomes a problem."""
        names = (TOKENIZER_CONFIG, _SPECIAL, _ADDED, TOKENIZER_JSON)
        return cls(*(_read_object(folder, name, problems) for name in names))

    def special_token(self, name: str, default: str | None = None) -> Any:
        """Returns the text of a special token such as `pad_token`; `default` where none is set."""
        return _text_of({**self.special, **self.config}.get(name, default))

    def added_tokens(self) -> Iterator[AddedToken]:
        """Yields all tokens that any of the files adds to the vocabulary or names as special."""
        for text, number in self.added.items():
            yield AddedToken(_ADDED, text, number)
        decoder = self.config.get("added_tokens_decoder") or {}
        numbered = decoder.items() if isinstance(decoder, dict) else [(None, None)]
        for number, token in numbered:
            yield AddedToken(TOKENIZER_CONFIG, _text_of(token), _to_int(number))
        for origin, values in ((TOKENIZER_CONFIG, self.config), (_SPECIAL, self.special)):
            for name in _LISTS:
                for token in _values(values.get(name)):
                    yield AddedToken(origin, _text_of(token))
        for token in _values(self.fast.get("added_tokens")):
            number = token.get("id") if isinstance(token, dict) else None
            yield AddedToken(TOKENIZER_JSON, _text_of(token), number)


def _read_object(folder: PublishedFolder, name: str, problems: Problems) -> dict[str, Any]:
    values = folder.read_json(name)
    if values is not None and not isinstance(values, dict):
        problems.add(f"{name} is damaged: it holds no JSON object")
    return values if isinstance(values, dict) else {}


def _values(tokens: Any) -> list[Any]:
    """Returns the tokens of a list, or of an object by their roles; [None] for anything else."""
    if isinstance(tokens, dict):
        return list(tokens.values())
    return tokens if isinstance(tokens, list) else [] if tokens is None else [None]


def _text_of(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _to_int(number: Any) -> Any:
    return int(number) if isinstance(number, str) and re.fullmatch(r"\d{1,9}", number) else number
