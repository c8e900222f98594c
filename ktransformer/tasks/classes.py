"""The names of a classifier's classes."""

from collections.abc import Sequence

from ktransformer.errors import InputError, check_unicode


def checked_classes(classes: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Returns the names of a model's classes.

    Args:
        classes: The names, in the order of their numbers.
        num_classes: The number of the model's classes.

    Raises:
        InputError: There are not as many names as classes, or one is no string or has no UTF-8
            form.
        TypeError: `classes` is a single string.
    """
    if isinstance(classes, str):
        raise TypeError("classes must be a list of names; got one string.")
    for name in classes:
        if not isinstance(name, str):
            raise InputError(f"classes must be names; got {name!r}.")
        check_unicode("classes", name)
    if len(classes) != num_classes:
        raise InputError(
            f"There must be a name for each of the {num_classes} classes; got {len(classes)} names."
        )
    return tuple(classes)
