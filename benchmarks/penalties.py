"""What does a penalty on the weights, or a bound, add to a train step of a model of 10 million parameters?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import fit_step, labelled, reads_and_adds
from keras_kicks import constraints, layers, optimizers, regularizers

PLAIN, WEIGHT = "no penalty", 1e-4
FLOOR = "torch: reads 10 million weights, adds them to as many"
TARGET = 1.05


def penalties():
    """Return the contestants: regularizers by name."""
    ours, theirs = regularizers, keras.regularizers
    return {
        PLAIN: None,
        "Lasso": ours.Lasso(WEIGHT),
        "Ridge": ours.Ridge(WEIGHT),
        "Ridge, squared": ours.Ridge(WEIGHT, squared=True),
        "ElasticNet": ours.ElasticNet(WEIGHT, 0.5),
        "Lp(3)": ours.Lp(3, WEIGHT),
        "Keras L1": theirs.L1(WEIGHT),
        "Keras L2": theirs.L2(WEIGHT),
        "Keras L1L2": theirs.L1L2(WEIGHT, WEIGHT),
    }


def compiled(smoke, jit_compile, optimizer=None, wrap=None, **arguments):
    """Return a compiled network of three layers, always the same weights."""
    keras.utils.set_random_seed(SEED)
    width = 20 if smoke else 2000
    dense = [keras.layers.Dense(width, "relu", **arguments) for _ in range(2)]
    dense.append(keras.layers.Dense(width // 2, **arguments))
    model = keras.Sequential([keras.Input((width,)), *(map(wrap, dense) if wrap else dense)])
    model.compile(optimizer or keras.optimizers.Adam(1e-4), "mse", jit_compile=jit_compile)
    return model


def convolutional(filters, size, regularizer=None):
    """Return a network of four convolutions of 3 x 3; 9.4 million parameters for 512 filters."""
    keras.utils.set_random_seed(SEED)
    convolutions = [
        keras.layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_regularizer=regularizer)
        for _ in range(4)
    ]
    return keras.Sequential([keras.Input((size, size, filters)), *convolutions])


def convolutional_step(smoke, regularizer):
    """Return a run of a train step of it."""
    filters, size, samples = (4, 4, 2) if smoke else (512, 8, 16)
    model, rng = convolutional(filters, size, regularizer), np.random.default_rng(SEED)
    model.compile(keras.optimizers.Adam(1e-4), "mse", jit_compile=False)
    return fit_step(model, *(rng.normal(size=(samples, size, size, filters)).astype("float32") for _ in range(2)))


def comparisons(runs):
    """Return the ratios of penalties to none, and to Keras's own."""
    ours = [name for name in penalties() if name != PLAIN]
    ratios = [Ratio(name, PLAIN, None if name.startswith("Keras") else TARGET) for name in ours]
    peers = {"Lasso": "Keras L1", "Ridge, squared": "Keras L2", "ElasticNet": "Keras L1L2"}
    return ratios + [Ratio(*pair) for pair in peers.items()] + [Ratio(FLOOR, PLAIN)] * (FLOOR in runs)


def batch(smoke):
    """Return inputs and targets for one step."""
    width, rng = 20 if smoke else 2000, np.random.default_rng(SEED)
    return [rng.normal(size=(256, n)).astype("float32") for n in (width, width // 2)]


def expect_equal_penalties():
    """Raise unless a penalty is Keras's where Keras has it."""
    found = penalties()
    x = keras.ops.convert_to_tensor(np.random.default_rng(SEED).normal(size=(50, 40)).astype("float32"))
    for ours, theirs in (("Lasso", "Keras L1"), ("Ridge, squared", "Keras L2")):
        np.testing.assert_allclose(float(found[ours](x)), float(found[theirs](x)), rtol=1e-5)


def run(smoke=False):
    """Time train steps with penalties, and with what makes zeros in other ways."""
    expect_equal_penalties()
    x, y = batch(smoke)
    results = []
    for jit in (False, True):
        runs = {
            name: fit_step(compiled(smoke, jit, kernel_regularizer=penalty), x, y)
            for name, penalty in penalties().items()
        }
        if not jit:
            width = x.shape[1]
            runs[FLOOR] = reads_and_adds((width, width), (width, width), (width, width // 2))
        times = race(runs, 3 if smoke else 30)
        title = f"A train step with a penalty, 10 million parameters, {labelled(jit)}"
        results.append(Result(title, "ms", times, comparisons(runs)))
    runs = {name: convolutional_step(smoke, penalty) for name, penalty in penalties().items()}
    title = f"A train step with a penalty, four convolutions of 512 to 512 channels, {labelled(False)}"
    results.append(Result(title, "ms", race(runs, 3 if smoke else 15), comparisons(runs)))
    chain = optimizers.Chain([optimizers.ScaleByAdam(), optimizers.Proximal(WEIGHT)], 1e-4)
    runs = {
        PLAIN: fit_step(compiled(smoke, False), x, y),
        "Proximal, in a chain": fit_step(compiled(smoke, False, chain), x, y),
        "L1Ball": fit_step(compiled(smoke, False, kernel_constraint=constraints.L1Ball(100.0)), x, y),
        "L2Ball": fit_step(compiled(smoke, False, kernel_constraint=constraints.L2Ball(10.0)), x, y),
        "Keras MaxNorm": fit_step(
            compiled(smoke, False, kernel_constraint=keras.constraints.MaxNorm(10.0, None)), x, y
        ),
        "L0, a gate for each weight": fit_step(compiled(smoke, False, wrap=lambda d: layers.L0(d, 1e-7)), x, y),
        "L0, a gate for each input": fit_step(
            compiled(smoke, False, wrap=lambda d: layers.L0(d, 1e-7, gates="input")), x, y
        ),
    }
    times = race(runs, 3 if smoke else 30)
    title = f"A train step that makes zeros, 10 million parameters, {labelled(False)}"
    ratios = [Ratio(name, PLAIN) for name in runs if name != PLAIN] + [Ratio("L2Ball", "Keras MaxNorm")]
    results.append(Result(title, "ms", times, ratios))
    return results
