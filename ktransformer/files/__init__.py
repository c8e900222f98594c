"""Atomic outputs: a file or folder appears whole or not at all, and replaces only our own."""

from ktransformer.files.contents import json_text, readable_size, size_on_disk
from ktransformer.files.folder_kind import FolderKind, name_entries
from ktransformer.files.outputs import (
    check_folder,
    check_new_file,
    check_new_folder,
    make_folder,
    new_file,
    new_folder,
    remove_empty,
    resolve,
)
from ktransformer.files.private_folder import remove_leavings

__all__ = [
    "FolderKind",
    "check_folder",
    "check_new_file",
    "check_new_folder",
    "json_text",
    "make_folder",
    "name_entries",
    "new_file",
    "new_folder",
    "readable_size",
    "remove_empty",
    "remove_leavings",
    "resolve",
    "size_on_disk",
]
