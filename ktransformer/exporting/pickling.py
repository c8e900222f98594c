"""What is opened from a file, and not sent to another process."""

from typing import Any


class OpenedExport:
    """An export that is open in this process; pickling it is refused with the way to do it."""

    path: Any

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"A {type(self).__name__} cannot be pickled: send its path, {self.path}, and open it "
            "in each process."
        )
