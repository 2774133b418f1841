"""The adding problem: two marked numbers far back in a sequence of noise."""

import numpy as np

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_seed


def adding_problem(samples, length, seed=None, form="sum"):
    """Draw sequences of pairs (value, marker), and the sum of the two marked values.

    Two forms are in use; the targets of "1997" are half of those of "sum", if its values are mapped to [0, 1]:

    ======================  ==============================  ===========================================
    form                    "sum"                           "1997"
    ======================  ==============================  ===========================================
    values                  uniform in [0, 1)               uniform in [-1, 1)
    markers                 1 of the two, 0 of the others   the same, but -1 of the first and last pair
    first marked pair       in the first half               among the first ten
    second marked pair      in the second half              among the first T/2 - 1 not marked yet
    steps                   T                               from T to T + T/10, at random
    target                  X1 + X2                         0.5 + (X1 + X2) / 4
    MSE of the best         1/6, by 1                       (1 - p/2) / 24, by 0.5
    constant
    a sequence is right if  |error| < 0.08                  |error| < 0.04
    ======================  ==============================  ===========================================

    The last row is one rule in two units: the published one of "1997". |error| < 0.04 of the form "sum" is twice as
    strict. p = 1/10 + 9/10 / (T/2 - 1) is the share of sequences in which the first pair is drawn, whose value is then
    set to 0, as published.

    Args:
        samples: Number of sequences, >= 1.
        length: T, >= 2; >= 12 in the form "1997".
        seed: Seed of `numpy.random.default_rng`: the same numbers for the same seed; None for others in each call.
        form: "sum" or "1997".

    Returns:
        x, float32 of shape (samples, steps, 2); in the form "1997", steps is T + T//10 and shorter sequences are
        followed by pairs of zeros, which `keras.layers.Masking()` takes out. And y, float32 of shape (samples, 1).

    Raises:
        TypeError: `samples` or `length` is no integer; `seed` is neither None nor an integer.
        ValueError: expected samples >= 1; a length of at least 2, in the form "1997" of at least 12; a known form.

    Source:
        "1997": Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, experiment 4; the
        first pair's marker stays -1. "sum": Arjovsky, Shah and Bengio, "Unitary Evolution Recurrent Neural Networks",
        2016, arXiv:1511.06464, after Le, Jaitly and Hinton 2015, arXiv:1504.00941.

    Example:
        >>> from keras_kicks.datasets import adding_problem
        >>> x, y = adding_problem(1000, length=100, seed=0)
        >>> x.shape, y.shape
        ((1000, 100, 2), (1000, 1))
        >>> float(((x[..., 0] * x[..., 1]).sum(axis=1) - y[:, 0]).max())
        0.0
    """
    owner = "adding_problem"
    expect_integer(owner, samples=samples, length=length)
    expect_seed(owner, seed)
    expect_choice(owner, ("sum", "1997"), form=form)
    expect(samples >= 1, owner, "samples >= 1", samples=samples)
    shortest = 2 if form == "sum" else 12
    expect(length >= shortest, owner, f"length >= {shortest} in this form", length=length, form=form)
    return (_sum if form == "sum" else _published)(np.random.default_rng(seed), samples, length)


def _sum(rng, samples, length):
    values = rng.random((samples, length), dtype="float32")
    first = rng.integers(0, length // 2, samples)
    second = rng.integers(length // 2, length, samples)
    markers = np.zeros_like(values)
    rows = np.arange(samples)
    markers[rows, first] = markers[rows, second] = 1
    return np.stack([values, markers], axis=-1), (values[rows, first] + values[rows, second])[:, None]


def _published(rng, samples, length):
    steps = rng.integers(length, length + length // 10 + 1, samples)
    values = 2 * rng.random((samples, length + length // 10), dtype="float32") - 1
    first = rng.integers(0, 10, samples)
    second = rng.integers(0, length // 2 - 1, samples)
    second += second >= first  # The pairs that are not marked yet.
    rows, markers = np.arange(samples), np.zeros_like(values)
    for place in (first, second):
        values[rows, place] *= place > 0
        markers[rows, place] = 1
    markers[:, 0] = markers[rows, steps - 1] = -1
    x = np.stack([values, markers], axis=-1)
    x[np.arange(values.shape[1]) >= steps[:, None]] = 0
    return x, (0.5 + (values[rows, first] + values[rows, second]) / 4)[:, None]
