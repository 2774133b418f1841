"""What does a penalty on the distance of 10 million parameters from where they started add to a train step?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
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
    width, batch, rounds = (16, 8, 2) if smoke else (1825, 256, 30)
    rng = np.random.default_rng(SEED)
    x, y = rng.normal(size=(batch, width)).astype("float32"), rng.integers(0, 10, batch)

    def tied(squared):
        start = network(width)
        return TiedModel(network(width), ParameterTying(start, 1e-4, squared=squared))

    results = []
    for jit_compile in (False, True):
        runs = {
            PLAIN: step(network(width), x, y, jit_compile),
            L2: step(network(width, keras.regularizers.L2(1e-4)), x, y, jit_compile),
            SNAPSHOT: step(tied(True), x, y, jit_compile),
            NORM: step(tied(False), x, y, jit_compile),
        }
        size = f"{network(width).count_params():,} parameters, batch of {batch}"
        title = f"A train step with a tying term, {size}, Adam, {labelled(jit_compile)}"
        ratios = [Ratio(SNAPSHOT, PLAIN, 1.05), Ratio(NORM, PLAIN, 1.05), Ratio(SNAPSHOT, L2), Ratio(L2, PLAIN)]
        results.append(Result(title, "ms", race(runs, rounds), ratios))
    return results
