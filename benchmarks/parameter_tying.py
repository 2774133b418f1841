"""What does a penalty on the distance of 10 million parameters from where they started add to a train step?"""

import functools

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.penalties import convolutional
from benchmarks.steps import fit_step, labelled
from keras_kicks.models import TiedModel
from keras_kicks.regularizers import ParameterTying

PLAIN = "no penalty"
L2 = "keras.regularizers.L2 on every kernel"
SNAPSHOT = "TiedModel, squared (L2-SP)"
NORM = "TiedModel, the norm"


def network(width, regularizer=None):
    """Return a multilayer perceptron of three square kernels; 10 million parameters for a width of 1,825."""
    keras.utils.set_random_seed(SEED)
    hidden = [keras.layers.Dense(width, "relu", kernel_regularizer=regularizer) for _ in range(3)]
    return keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(10)])


def step(model, x, y, jit_compile):
    """Return a run of one train step."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-5), loss, jit_compile=jit_compile)
    return fit_step(model, x, y)


def run(smoke=False):
    """Return the results."""
    rng = np.random.default_rng(SEED)
    width, filters, size, rounds = (16, 4, 4, 2) if smoke else (1825, 512, 8, 30)
    cases = [
        (functools.partial(network, width), (8 if smoke else 256, width), False),
        (functools.partial(network, width), (8 if smoke else 256, width), True),
        (functools.partial(convolutional, filters, size), (2 if smoke else 16, size, size, filters), False),
    ]
    results = []
    for build, shape, jit_compile in cases:
        x, y = rng.normal(size=shape).astype("float32"), rng.integers(0, min(10, shape[-1]), shape[:-1])

        def tied(squared, build=build):
            return TiedModel(build(), ParameterTying(build(), 1e-4, squared=squared))

        runs = {
            PLAIN: step(build(), x, y, jit_compile),
            L2: step(build(regularizer=keras.regularizers.L2(1e-4)), x, y, jit_compile),
            SNAPSHOT: step(tied(True), x, y, jit_compile),
            NORM: step(tied(False), x, y, jit_compile),
        }
        kind = "dense" if len(shape) == 2 else "convolutional"
        size_of = f"{build().count_params():,} parameters, {kind}, batch of {shape[0]}"
        title = f"A train step with a tying term, {size_of}, Adam, {labelled(jit_compile)}"
        ratios = [Ratio(SNAPSHOT, PLAIN, 1.05), Ratio(NORM, PLAIN, 1.05), Ratio(SNAPSHOT, L2), Ratio(L2, PLAIN)]
        results.append(Result(title, "ms", race(runs, rounds if kind == "dense" else rounds // 2), ratios))
    return results
