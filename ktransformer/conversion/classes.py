"""The names of a published classifier's classes."""

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems


def read_classes(folder: PublishedFolder, head: str, problems: Problems) -> list[str]:
    """Returns the name of each class, from `id2label`; the head's tensor counts them.

    Args:
        folder: The folder.
        head: The name of the head; its tensor is `{head}.weight`, `[n, D]`.
        problems: Gets a sentence for names that are not those of 0 to n - 1.
    """
    name = f"{head}.weight"
    count = (*folder.tensors.shape(name), 1)[0] if name in folder.tensors else 1
    labels = folder.config.get("id2label")
    if labels is None:
        return [f"LABEL_{i}" for i in range(count)]
    numbers = [str(i) for i in range(count)]
    if not isinstance(labels, dict) or sorted(labels) != sorted(numbers):
        problems.add(f"id2label must name the classes 0 to {count - 1} of {name}")
        return numbers
    if not all(isinstance(label, str) for label in labels.values()):
        problems.add("id2label must hold strings")
        return numbers
    return [labels[number] for number in numbers]
