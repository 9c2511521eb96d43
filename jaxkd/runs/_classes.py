"""Compare the classes of a network with those of a dataset."""

from jaxkd._text import count
from jaxkd.data import ImageDataset
from jaxkd.runs._load import LoadedNetwork


def class_difference(loaded: LoadedNetwork, dataset: ImageDataset) -> str:
    """Describe how the classes of a trained network and of a dataset differ.

    Classes are compared by name if both have names. The names of unnamed classes are
    their numbers in order. Folders that are named by numbers have another order: 10
    precedes 2.

    Returns:
        A clause for a message; empty if the classes are the same.
    """
    own = loaded.network.num_classes
    if own != dataset.num_classes:
        return (
            f"dataset {dataset.name} has {_classes(dataset.num_classes)}, but the "
            f"network was trained on {_classes(own)}"
        )
    numbers = tuple(map(str, range(own)))
    ours, theirs = loaded.class_names, dataset.class_names
    if ours is None or (numbers in (ours, theirs) and set(ours) != set(theirs)):
        return ""  # One of them has no names.
    others = [i for i in range(own) if ours[i] != theirs[i]]
    if not others:
        return ""
    i = others[0]
    return (
        f"dataset {dataset.name} calls class {i} {theirs[i]!r}, but the network "
        f"was trained with the name {ours[i]!r} ({len(others)} of {own} classes differ)"
    )


def _classes(number: int) -> str:
    return count(number, "class", "classes")
