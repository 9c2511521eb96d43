"""Select rows of datasets in memory; sources of encoded images use a plan instead."""

import dataclasses

import numpy as np

from jaxkd.data._dataset import ImageDataset, Split
from jaxkd.data._labels import doubts_about_counts, doubts_about_names
from jaxkd.data._slices import (
    Specification,
    check_disjoint,
    fingerprint_of_rows,
    in_even_shares,
    parse,
)

_SPLITS = ("train", "test")


def select_rows(
    dataset: ImageDataset, train_split: str | None, test_split: str | None
) -> ImageDataset:
    """Select rows of the splits ``train`` and ``test``.

    A slice takes the same share of each class.

    Args:
        dataset: The dataset.
        train_split: Specification of the training rows; None for all.
        test_split: Specification of the test rows; None for all.

    Returns:
        The dataset with these rows; its fingerprint identifies them.

    Raises:
        InvalidInputError: If a split does not exist, or rows are used for both.
    """
    train = parse("train" if train_split is None else train_split, "train_split")
    test = parse("test" if test_split is None else test_split, "test_split")
    for specification in (train, test):
        specification.check_known(_SPLITS, dataset.name)
    check_disjoint(train, test, lambda split: len(getattr(dataset, split).labels))
    chosen = [_take(dataset, part) for part in (train, test)]
    rows = fingerprint_of_rows(train, test, "test")
    names = list(dataset.class_names)
    doubts = (
        *doubts_about_names(names),
        *doubts_about_counts(chosen[0].labels, chosen[1].labels, names),
    )
    if not rows and not doubts:
        return dataset  # a copy would check all images again
    return dataclasses.replace(
        dataset,
        train=chosen[0],
        test=chosen[1],
        fingerprint=dataset.fingerprint + rows,
        doubts=doubts,
    )


def _take(dataset: ImageDataset, specification: Specification) -> Split:
    """Return the chosen rows, without a copy if these are a whole split."""
    found = []
    for split, rows in specification.rows(
        lambda name: len(getattr(dataset, name).labels)
    ):
        images, labels = getattr(dataset, split)
        if len(rows) < len(labels):
            chosen = np.sort(in_even_shares(labels)[rows.start : rows.stop])
            images, labels = images[chosen], labels[chosen]
        found.append(Split(images, labels))
    if len(found) == 1:
        return found[0]
    images, labels = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return Split(images, labels)
