"""Is RReLU faster to train than torch's, and what do its draws cost?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import labelled, tensorflow_step, torch_step
from keras_kicks.layers import RReLU


def run(smoke=False):
    """Time a step on two million elements."""
    import torch

    x = np.random.default_rng(SEED).normal(size=(4, 500) if smoke else (1000, 2000)).astype("float32")
    ours, leaky, dropout = RReLU(seed=SEED), keras.layers.LeakyReLU(0.25), keras.layers.Dropout(0.25, seed=SEED)
    peer = torch.nn.RReLU()
    np.testing.assert_allclose(ours(x), peer.eval()(torch.tensor(x)).numpy(), rtol=1e-6)
    peer.train()
    results = []
    for jit in (False, True):
        contestants = {
            "keras_kicks": tensorflow_step(lambda x: ours(x, training=True), [], [x], jit),
            "torch RReLU": torch_step(peer, [], [x]),
            "Keras LeakyReLU": tensorflow_step(leaky, [], [x], jit),
            "Keras Dropout": tensorflow_step(lambda x: dropout(x, training=True), [], [x], jit),
        }
        times = race(contestants, 3 if smoke else 100)
        ratios = [Ratio("keras_kicks", peer, 0.6 if "RReLU" in peer else None) for peer in list(contestants)[1:]]
        results.append(Result(f"RReLU on {x.size:,} elements, {labelled(jit)}", "ms", times, ratios))
    return results
