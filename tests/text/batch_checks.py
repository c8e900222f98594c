"""The pairs that batches hold, and the comparison of two epochs."""

import numpy as np

from ktransformer.text import PAD_ID


def without_padding(row):
    return row[row != PAD_ID].tolist()


def pairs_of(epoch):
    return [
        (without_padding(source), without_padding(label))
        for inputs, labels in epoch
        for source, label in zip(inputs["source"], labels, strict=True)
        if label.any()
    ]


def assert_same_batches(first, second):
    for (inputs, labels), (other_inputs, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(inputs["source"], other_inputs["source"])
        np.testing.assert_array_equal(inputs["target"], other_inputs["target"])
        np.testing.assert_array_equal(labels, other_labels)
