"""Reads untrusted YAML in bounded memory."""

from pathlib import Path
from typing import Any

import yaml

from ktransformer.errors import InputError

_MOST_BYTES, _MOST_NODES = 1 << 20, 10_000  # Of a file of settings.


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file of at most 1 MiB and 10,000 nodes, aliases expanded.

    Raises:
        InputError: The file cannot be read, is too large, or is not valid YAML.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    if len(text) > _MOST_BYTES:
        raise InputError(f"{path} is larger than {_MOST_BYTES} bytes: no file of settings.")
    try:
        loader = yaml.SafeLoader(text.decode())
        root = loader.get_single_node()
        if root is None:
            return None
        _check_aliases(root)
        return loader.construct_document(root)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply for a file of settings.") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error


def _check_aliases(root: yaml.Node) -> None:
    """Raises if an alias contains itself, or if expanded aliases make too many nodes."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key not in sizes:
            sizes[key] = _MOST_NODES  # Found again from inside the node: a recursive alias.
            children: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                children = node.value
            elif isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
            sizes[key] = 1 + sum(size(child) for child in children)
        return sizes[key]

    if size(root) > _MOST_NODES:
        raise ValueError(f"its aliases make more than {_MOST_NODES} values of it")
