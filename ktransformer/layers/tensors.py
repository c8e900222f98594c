"""Names of tensors by what they hold, with their usual shape, for annotations.

Each is `Any` to a type checker: the class of a tensor depends on the backend, and its shape is no
part of it.
"""

from typing import Any

Vectors = Any
"""Floats `[B, T, D]`: a vector for each position."""
Heads = Any
"""Floats `[B, H, T, D/H]`: the queries, keys or values of each head."""
Scores = Any
"""Floats `[B, H, T, S]`: attention scores, or weights."""
Mask = Any
"""Booleans `[B, T]`, True at real positions; wider where a docstring says so."""
Ids = Any
"""Int32 `[B, T]`: ids of tokens."""
Logits = Any
"""Floats `[B, T, V]`."""
Images = Any
"""Floats `[B, h, w, C]`."""
Size = Any
"""An int, or an int32 scalar tensor."""
Shape = Any
"""A tuple of sizes, None where a size is open."""
