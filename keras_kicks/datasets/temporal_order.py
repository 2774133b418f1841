"""The temporal order problem: in which order did a few relevant symbols come?"""

import numpy as np

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_seed

# Between which hundredths of the shortest sequence a relevant symbol is.
PLACES = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}


def temporal_order(samples, length=100, relevant=2, seed=None):
    """Draw sequences of distractors with two or three relevant symbols, X or Y, and the class of their order.

    A sequence starts with E, ends with B, and has distractors a, b, c, d in between, but for X or Y, each with
    probability 1/2, at places t_1 < t_2 (< t_3) that are drawn uniformly. The class is the binary number of the
    relevant symbols with X = 0 and Y = 1, the first one in front: XX, XY, YX, YY are 0, 1, 2, 3, the published
    classes Q, R, S, U; of three symbols, XXX to YYY are 0 to 7, the published Q, R, S, U, V, A, B, C.

    With the published length of 100, sequences have 100 to 110 steps and, counted from 1, t_1 is in [10, 20] and t_2
    in [50, 60]; of three, t_2 is in [33, 43] and t_3 in [66, 76]. Other lengths scale these. A constant or memoryless
    guess is right in 1 of 4, or 1 of 8, sequences, with a cross-entropy of ln 4, or ln 8.

    Args:
        samples: Number of sequences, >= 1.
        length: Steps of the shortest sequence, >= 20; the longest has length + length // 10.
        relevant: Relevant symbols: 2 for the published experiment 6a, 3 for 6b.
        seed: Seed of `numpy.random.default_rng`: the same numbers for the same seed; None for others in each call.

    Returns:
        x, int32 ids of shape (samples, length + length // 10): 0 after the end, 1 to 8 for E, B, a, b, c, d, X, Y, so
        that `keras.layers.Embedding(9, ..., mask_zero=True)` takes what follows the end out. And the classes y, int32
        of shape (samples,).

    Raises:
        TypeError: `samples`, `length` or `relevant` is no integer; `seed` is neither None nor an integer.
        ValueError: expected samples >= 1; length >= 20; relevant to be one of 2, 3.

    Source:
        Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, experiments 6a and 6b,
        where symbols are given one-hot.

    Example:
        >>> from keras_kicks.datasets import temporal_order
        >>> x, y = temporal_order(2, length=20, seed=0)
        >>> ["".join("_EBabcdXY"[symbol] for symbol in row) for row in x], y.tolist()
        (['EbXaaaadcdcXdccccdbdcB', 'EdYadcdaadYcabbbbaaaB_'], [0, 3])
    """
    owner = "temporal_order"
    expect_integer(owner, samples=samples, length=length, relevant=relevant)
    expect_seed(owner, seed)
    expect_choice(owner, tuple(PLACES), relevant=relevant)
    expect(samples >= 1, owner, "samples >= 1", samples=samples)
    expect(length >= 20, owner, "length >= 20", length=length)
    rng = np.random.default_rng(seed)
    steps = rng.integers(length, length + length // 10 + 1, samples)
    x = rng.integers(3, 7, (samples, length + length // 10), dtype="int32")
    rows = np.arange(samples)
    classes = np.zeros(samples, "int32")
    for low, high in PLACES[relevant]:
        # Places are counted from 1.
        place = rng.integers(low * length // 100, high * length // 100 + 1, samples) - 1
        symbol = rng.integers(0, 2, samples, dtype="int32")
        x[rows, place] = 7 + symbol
        classes = 2 * classes + symbol
    x[:, 0] = 1
    x[rows, steps - 1] = 2
    x[np.arange(x.shape[1]) >= steps[:, None]] = 0
    return x, classes
