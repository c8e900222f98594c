"""Exports that are open in a process and cannot be sent to another."""

from typing import Any


class OpenedExport:
    """An export that is open in this process; pickling it raises with the way to send it."""

    path: Any

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"A {type(self).__name__} cannot be pickled: send its path, {self.path}, and open it "
            "in each process."
        )
