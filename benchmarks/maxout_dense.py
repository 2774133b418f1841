"""What does the maximum of MaxoutDense cost beside its matrix product?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, tensorflow_step
from keras_kicks.layers import MaxoutDense

OURS, DENSE, PRODUCTS, ADDONS = "keras_kicks", "Dense", "Dense without bias", "Dense and Addons' Maxout"


def run(smoke=False):
    """Time a step of MaxoutDense(512, pool_size=4) on (256, 512)."""
    import tensorflow as tf

    units, pool = (8, 4) if smoke else (512, 4)
    x = np.random.default_rng(SEED).normal(size=(256, 512)).astype("float32")
    ours, dense = MaxoutDense(units, pool), keras.layers.Dense(units * pool)
    products = keras.layers.Dense(units * pool, use_bias=False)
    for layer in (ours, dense, products):
        layer.build(x.shape)
    dense.set_weights(ours.get_weights())

    def addons(x):
        """The formulation of TensorFlow Addons' Maxout layer, with its strided groups."""
        return tf.reduce_max(tf.reshape(dense(x), (-1, pool, units)), axis=1)

    results = []
    for jit in (False, True):
        contestants = {
            OURS: tensorflow_step(ours, ours.trainable_variables, [x], jit),
            DENSE: tensorflow_step(dense, dense.trainable_variables, [x], jit),
            PRODUCTS: tensorflow_step(products, products.trainable_variables, [x], jit),
            ADDONS: tensorflow_step(addons, dense.trainable_variables, [x], jit),
        }
        # Not the gradients: where two pieces nearly tie, rounding decides which of them gets it.
        expect_equal(contestants, OURS, ADDONS, gradients=False)
        times = race(contestants, 3 if smoke else 100)
        # The last two say how much there is to gain.
        ratios = [Ratio(OURS, DENSE, 1.10), Ratio(OURS, ADDONS, 0.95), Ratio(DENSE, ADDONS), Ratio(PRODUCTS, ADDONS)]
        results.append(Result(f"MaxoutDense({units}, {pool}) on (256, 512), {labelled(jit)}", "ms", times, ratios))
    return results
