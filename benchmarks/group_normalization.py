"""Is GroupNormalization faster to train than Keras's?"""

import keras
import numpy as np

from benchmarks.harness import Result, Target, race
from benchmarks.steps import labelled, tensorflow_step, torch_step
from keras_kicks.layers import GroupNormalization


def run(smoke=False):
    """Time a step on (32, 32, 32, 64) with 8 groups."""
    import torch

    shape = (2, 8, 8, 64) if smoke else (32, 32, 32, 64)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    ours, theirs = GroupNormalization(8), keras.layers.GroupNormalization(8)
    peer = torch.nn.GroupNorm(8, 64, eps=1e-3)
    for layer in (ours, theirs):
        layer.build(shape)
    channels_first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    values = ours(x, training=True).numpy()
    np.testing.assert_allclose(values, theirs(x).numpy(), atol=1e-4)
    of_torch = peer(torch.tensor(channels_first)).detach().numpy()
    np.testing.assert_allclose(values, of_torch.transpose(0, 2, 3, 1), atol=1e-4)
    results = []
    for jit in (False, True):
        contestants = {
            "keras_kicks": tensorflow_step(lambda x: ours(x, training=True), ours.trainable_variables, [x], jit),
            "Keras": tensorflow_step(theirs, theirs.trainable_variables, [x], jit),
            "torch": torch_step(peer, list(peer.parameters()), [channels_first]),
        }
        times = race(contestants, 3 if smoke else 60)
        title = f"GroupNormalization(8) on {shape}, {labelled(jit)}"
        results.append(Result(title, "ms", times, [Target("keras_kicks", "Keras", 0.65)]))
    return results
