"""The temporal order problem, read as the paper says."""

import re

import numpy as np
import pytest

from keras_kicks.datasets import temporal_order

# Experiments 6a and 6b: the class by the symbols in their order, and between which places they are, counted from 1.
PUBLISHED = {
    2: (["XX", "XY", "YX", "YY"], [(10, 20), (50, 60)]),
    3: (["XXX", "XXY", "XYX", "XYY", "YXX", "YXY", "YYX", "YYY"], [(10, 20), (33, 43), (66, 76)]),
}


@pytest.mark.parametrize("relevant", [2, 3])
def test_sequences_are_as_published(relevant):
    x, y = temporal_order(3000, relevant=relevant, seed=0)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((3000, 110), np.int32, (3000,), np.int32)
    classes, ranges = PUBLISHED[relevant]
    lengths, places = set(), [set() for _ in ranges]
    for row, label in zip(x, y, strict=True):
        text = "".join(" EBabcdXY"[symbol] for symbol in row)
        sequence = text.rstrip()
        assert re.fullmatch("E[abcdXY]*B", sequence)
        assert classes[label] == re.sub("[^XY]", "", sequence)
        lengths.add(len(sequence))
        for found, place in zip(places, re.finditer("[XY]", sequence), strict=True):
            found.add(place.start() + 1)
    assert lengths == set(range(100, 111))
    assert places == [set(range(low, high + 1)) for low, high in ranges]


@pytest.mark.parametrize("relevant", [2, 3])
def test_classes_and_distractors_are_uniform(relevant):
    x, y = temporal_order(16000, length=20, relevant=relevant, seed=1)
    np.testing.assert_allclose(np.bincount(y) / len(y), 1 / 2**relevant, atol=0.012)
    distractors = x[(x > 2) & (x < 7)]
    np.testing.assert_allclose(np.bincount(distractors)[3:] / len(distractors), 1 / 4, atol=0.01)


def test_other_lengths_scale_the_places():
    x, _ = temporal_order(2000, length=50, seed=2)
    first, second = (np.argwhere(x > 6)[i::2, 1] + 1 for i in range(2))
    assert x.shape == (2000, 55)
    assert [first.min(), first.max(), second.min(), second.max()] == [5, 10, 25, 30]


def test_the_shortest_sequence_still_has_its_ends():
    for relevant in (2, 3):
        x, _ = temporal_order(500, length=20, relevant=relevant, seed=3)
        assert (x[:, 0] == 1).all()
        assert ((x == 2).sum(axis=1) == 1).all()
        assert ((x > 6).sum(axis=1) == relevant).all()


def test_a_seed_gives_the_same_numbers():
    first, again, other = (temporal_order(5, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "expected samples >= 1; got samples=0."),
        ((1, 19), ValueError, "expected length >= 20; got length=19."),
        ((1, 100, 4), ValueError, "expected relevant to be one of 2, 3; got relevant=4."),
        ((1, 100.0), TypeError, "expected an integer for length; got length=100.0."),
        ((True,), TypeError, "expected an integer for samples; got samples=True."),
        ((1, 100, 2, 1.5), TypeError, "expected an integer for seed; got seed=1.5."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"temporal_order: {message}")):
        temporal_order(*arguments)
