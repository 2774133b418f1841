"""Is GroupNormalization faster to train than Keras's?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, tensorflow_step, torch_step
from keras_kicks.layers import GroupNormalization


def run(smoke=False):
    """Time a step on (32, 32, 32, 64) with 8 groups."""
    import torch

    shape = (2, 8, 8, 64) if smoke else (32, 32, 32, 64)
    x = np.random.default_rng(SEED).normal(size=shape).astype("float32")
    ours, theirs = GroupNormalization(8), keras.layers.GroupNormalization(8)
    peer = torch.nn.GroupNorm(8, 64, eps=1e-3)
    for layer in (ours, theirs):
        layer.build(shape)
    # The layout that each library's users have.
    channels_first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    of_torch = peer(torch.tensor(channels_first)).detach().numpy()
    np.testing.assert_allclose(ours(x, training=True), of_torch.transpose(0, 2, 3, 1), atol=1e-4)
    results = []
    for jit in (False, True):
        contestants = {
            "keras_kicks": tensorflow_step(lambda x: ours(x, training=True), ours.trainable_variables, [x], jit),
            "Keras": tensorflow_step(theirs, theirs.trainable_variables, [x], jit),
            "torch, channels first": torch_step(peer, list(peer.parameters()), [channels_first]),
        }
        expect_equal(contestants, "keras_kicks", "Keras")
        times = race(contestants, 3 if smoke else 100)
        ratios = [Ratio("keras_kicks", "Keras", 0.65), Ratio("keras_kicks", "torch, channels first")]
        results.append(Result(f"GroupNormalization(8) on {shape}, {labelled(jit)}", "ms", times, ratios))
    return results
