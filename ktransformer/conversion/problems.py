"""All obstacles to a conversion, collected and reported at once."""

from ktransformer.errors import InputError

_MOST = 20  # A folder of another kind of model has hundreds of unknown tensors.


class Problems:
    """Collects the obstacles to a conversion, so that a user sees all of them, not the first.

    Attributes:
        sentences: One for each obstacle, in the order in which they were found.
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Records an obstacle: a clause without a full stop, which says what would be wrong."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def raise_if_any(self, origin: object, what: str = "be imported") -> None:
        """Raises an error that lists the obstacles found so far.

        Args:
            origin: What they were found in, such as a folder.
            what: What cannot be done with it.

        Raises:
            InputError: There is at least one.
        """
        if not self.sentences:
            return
        more = len(self.sentences) - _MOST
        shown = [*self.sentences[:_MOST], *([f"and {more} more"] if more > 0 else [])]
        raise InputError(f"{origin} cannot {what}: {'; '.join(shown)}.")
