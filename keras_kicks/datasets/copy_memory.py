"""The copying memory problem: repeat a sequence after a long time."""

import numpy as np

from keras_kicks._errors import expect, expect_integer, expect_seed


def copy_memory(samples, lag, length=10, symbols=8, seed=None):
    """Draw sequences of symbols to keep in mind over `lag` steps and to repeat.

    With T the lag, n the length, S the symbols, a_S the blank and a_(S+1) the sign to begin:

        x:  s_1 ... s_n   a_S (T - 1 times)   a_(S+1)   a_S (n times)
        y:  a_S (T + n times)                           s_1 ... s_n

    A network without memory cannot do better than blanks and then one of S symbols at random: its cross-entropy, the
    mean over all steps, is n ln S / (T + 2n); with the published n and S that is 10 ln 8 / (T + 20).

    Args:
        samples: Number of sequences, >= 1.
        lag: T, >= 1.
        length: n, symbols to repeat, >= 1.
        symbols: S, different symbols, >= 1.
        seed: Seed of `numpy.random.default_rng`: the same numbers for the same seed; None for others in each call.

    Returns:
        x and y, int32 ids of shape (samples, T + 2n): 0 to S - 1 are symbols, S is the blank and S + 1 the sign to
        begin, which y does not have.

    Raises:
        TypeError: an argument is no integer; `seed` is neither None nor an integer.
        ValueError: expected samples >= 1, lag >= 1, length >= 1 and symbols >= 1.

    Source:
        Arjovsky, Shah and Bengio, "Unitary Evolution Recurrent Neural Networks", 2016, arXiv:1511.06464,
        after Hochreiter and Schmidhuber 1997.

    Example:
        >>> from keras_kicks.datasets import copy_memory
        >>> x, y = copy_memory(1, lag=4, length=3, symbols=2, seed=0)
        >>> x[0].tolist(), y[0].tolist()
        ([1, 1, 1, 2, 2, 2, 3, 2, 2, 2], [2, 2, 2, 2, 2, 2, 2, 1, 1, 1])
    """
    owner = "copy_memory"
    expect_integer(owner, samples=samples, lag=lag, length=length, symbols=symbols)
    expect_seed(owner, seed)
    for name, value in (("samples", samples), ("lag", lag), ("length", length), ("symbols", symbols)):
        expect(value >= 1, owner, f"{name} >= 1", **{name: value})
    kept = np.random.default_rng(seed).integers(0, symbols, (samples, length), dtype="int32")
    x = np.full((samples, lag + 2 * length), symbols, "int32")
    y = x.copy()
    x[:, :length] = y[:, -length:] = kept
    x[:, length + lag - 1] = symbols + 1
    return x, y
