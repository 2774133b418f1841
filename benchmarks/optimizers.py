"""What does a step of an optimizer cost, and what does clipping add to a train step?"""

import keras
import numpy as np

from benchmarks import networks
from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import fit_step, labelled
from keras_kicks import optimizers

OURS, PEER = "keras_kicks", "Keras"
CLIPPED, PLAIN = "GradientClipping", "not clipped"


def update(optimizer, shapes, jit_compile):
    """Return a run of one update of variables of these shapes, by the same gradients every time."""
    import tensorflow as tf

    rng = np.random.default_rng(SEED)
    variables = [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in shapes]
    gradients = [tf.constant(rng.normal(size=shape).astype("float32")) for shape in shapes]
    optimizer.build(variables)

    # Gradients are arguments, as they are results in a train step.
    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(*gradients):
        optimizer.apply(gradients, variables)

    def run():
        step(*gradients)
        return [v.numpy() for v in variables[:1]]

    run.variables = variables
    return run


def expect_equal_updates(runs):
    """Raise unless a first update by each leaves the same values."""
    for run in runs.values():
        run()
    ours, theirs = ([v.numpy() for v in runs[name].variables] for name in (OURS, PEER))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def updates(smoke):
    """Time Adam alone, on many small variables and on a few large ones."""
    settings = {
        "100 variables of 16 to 256 elements": ([(16, 16), (16,)] * 50, 0.7, 400),
        "4 variables of 2,500,000 elements": ([(2500, 1000)] * 4, 1.05, 60),
    }
    for title, (shapes, target, rounds) in settings.items():
        shapes = shapes[:4] if smoke else shapes
        shapes = [tuple(min(n, 50) for n in shape) for shape in shapes] if smoke else shapes
        for jit_compile in (False, True):
            runs = {
                OURS: update(optimizers.Adam(0.001, epsilon=1e-7, epsilon_hat=True), shapes, jit_compile),
                PEER: update(keras.optimizers.Adam(0.001), shapes, jit_compile),
            }
            expect_equal_updates(runs)
            times = race(runs, 3 if smoke else rounds)
            name = f"An update by Adam, {title}, {labelled(jit_compile)}"
            yield Result(name, "ms", times, [Ratio(OURS, PEER, target)])


def clipping(smoke):
    """Time train steps with and without clipping."""
    for name in networks.NAMES:
        x, y = networks.batch(name)
        for jit_compile in (False, True):
            runs = {}
            for contestant in (CLIPPED, PLAIN, "clipped by Keras"):
                model = networks.compiled(keras, networks.make(keras, name, smoke), jit_compile)
                limit = 1.0 if contestant == "clipped by Keras" else None
                optimizer = keras.optimizers.Adam(1e-4, global_clipnorm=limit)
                if contestant == CLIPPED:
                    optimizer = optimizers.GradientClipping(optimizer, limit=1.0)
                model.compile(optimizer, model.loss, jit_compile=jit_compile)
                runs[contestant] = fit_step(model, x, y)
            times = race(runs, 3 if smoke else 150)
            title = f"A train step with a clipped gradient, {name}, {labelled(jit_compile)}"
            yield Result(title, "ms", times, [Ratio(CLIPPED, PLAIN, 1.05), Ratio(CLIPPED, "clipped by Keras")])


def run(smoke=False):
    """Time updates and train steps."""
    return [*updates(smoke), *clipping(smoke)]
