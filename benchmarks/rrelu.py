"""Is RReLU faster to train than torch's, and what do its draws cost?"""

import keras
import numpy as np

from benchmarks.harness import Result, Target, race
from benchmarks.steps import tensorflow_step, torch_step
from keras_kicks.layers import RReLU


def run(smoke=False):
    """Time a step on two million elements."""
    import torch

    x = np.random.default_rng(0).normal(size=(4, 500) if smoke else (1000, 2000)).astype("float32")
    ours, leaky, dropout = RReLU(seed=0), keras.layers.LeakyReLU(0.25), keras.layers.Dropout(0.25, seed=0)
    peer = torch.nn.RReLU().train()
    np.testing.assert_allclose(ours(x).numpy(), peer.eval()(torch.tensor(x)).numpy(), rtol=1e-6)
    peer.train()
    contestants = {
        "keras_kicks": tensorflow_step(lambda x: ours(x, training=True), [], [x], False),
        "torch RReLU": torch_step(peer, [], [x]),
        "Keras LeakyReLU": tensorflow_step(leaky, [], [x], False),
        "Keras Dropout": tensorflow_step(lambda x: dropout(x, training=True), [], [x], False),
    }
    times = race(contestants, 3 if smoke else 60)
    title = f"RReLU on {x.size:,} elements, jit off"
    return [Result(title, "ms", times, [Target("keras_kicks", "torch RReLU", 0.6)])]
