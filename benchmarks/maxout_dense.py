"""What does the maximum of MaxoutDense cost beside its matrix product?"""

import keras
import numpy as np
from keras import ops

from benchmarks.harness import Result, Target, race
from benchmarks.steps import labelled, tensorflow_step
from keras_kicks.layers import MaxoutDense


def run(smoke=False):
    """Time a step of MaxoutDense(512, pool_size=4) on (256, 512)."""
    units, pool = (8, 4) if smoke else (512, 4)
    x = np.random.default_rng(0).normal(size=(256, 512)).astype("float32")
    ours, dense = MaxoutDense(units, pool), keras.layers.Dense(units * pool)
    for layer in (ours, dense):
        layer.build(x.shape)
    dense.set_weights(ours.get_weights())

    def addons(x):
        """The formulation of TensorFlow Addons' Maxout layer: strided groups by a reshape, then reduce_max."""
        return ops.max(ops.reshape(dense(x), (-1, pool, units)), axis=1)

    np.testing.assert_allclose(ours(x).numpy(), addons(x).numpy(), rtol=1e-5, atol=1e-5)
    results = []
    for jit in (False, True):
        contestants = {
            "keras_kicks": tensorflow_step(ours, ours.trainable_variables, [x], jit),
            "Dense alone": tensorflow_step(dense, dense.trainable_variables, [x], jit),
            "Dense and Addons' Maxout": tensorflow_step(addons, dense.trainable_variables, [x], jit),
        }
        times = race(contestants, 3 if smoke else 60)
        targets = [Target("keras_kicks", "Dense alone", 1.10), Target("keras_kicks", "Dense and Addons' Maxout", 0.95)]
        results.append(Result(f"MaxoutDense({units}, {pool}) on (256, 512), {labelled(jit)}", "ms", times, targets))
    return results
