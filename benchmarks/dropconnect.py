"""What do masks on the weights cost?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, tensorflow_step, torch_step
from keras_kicks.layers import DropConnect

OURS, TORCH = "keras_kicks", "torch, dropout of the weight"


def run(smoke=False):
    """Time a step of Dense(1024) on (256, 1024)."""
    import torch

    width = 16 if smoke else 1024
    x = np.random.default_rng(SEED).normal(size=(256, width)).astype("float32")
    dense = keras.layers.Dense(width)
    dense.build(x.shape)
    weights = dense.trainable_variables
    batch = DropConnect(dense, 0.5, seed=SEED)
    sample = DropConnect(dense, 0.5, mask="sample", seed=SEED)
    weight = torch.tensor(keras.ops.convert_to_numpy(dense.kernel).T.copy(), requires_grad=True)
    bias = torch.zeros(width, requires_grad=True)
    linear, dropout = torch.nn.functional.linear, torch.nn.functional.dropout
    np.testing.assert_allclose(batch(x), linear(torch.tensor(x), weight, bias).detach().numpy(), atol=1e-4)
    results = []
    for jit in (False, True):
        contestants = {
            OURS: tensorflow_step(lambda x: batch(x, training=True), weights, [x], jit),
            "Dense": tensorflow_step(dense, weights, [x], jit),
            TORCH: torch_step(lambda x: linear(x, dropout(weight, 0.5), bias), [weight, bias], [x]),
            "torch Linear": torch_step(lambda x: linear(x, weight, bias), [weight, bias], [x]),
        }
        # Without their masks both are the same layer.
        whole = {"ours": tensorflow_step(batch, weights, [x], jit), **contestants}
        expect_equal(whole, "ours", "Dense")
        times = race(contestants, 3 if smoke else 100)
        ratios = [Ratio(OURS, "Dense", 1.25), Ratio(OURS, TORCH), Ratio(TORCH, "torch Linear")]
        results.append(Result(f"DropConnect(Dense({width})) on {x.shape}, {labelled(jit)}", "ms", times, ratios))

    def sampled(x):
        """The plain formulation: a mask for every example, all at once."""
        masked = dropout(weight.expand(len(x), *weight.shape), 0.5)
        return torch.einsum("bi,boi->bo", x, masked) + bias

    # Fewer examples: torch takes 16 s for a step on all of them.
    x = x[:32]
    contestants = {
        OURS: tensorflow_step(lambda x: sample(x, training=True), weights, [x], False),
        "torch, all masks at once": torch_step(sampled, [weight, bias], [x]),
    }
    times = race(contestants, 2 if smoke else 10, warmup=1)
    title = f'DropConnect(Dense({width}), mask="sample") on {x.shape}, jit off'
    note = f"{len(x)} masks of {width} x {width} numbers a step. torch holds them all, keras_kicks a few at a time."
    return [*results, Result(title, "ms", times, [Ratio(OURS, "torch, all masks at once")], [note])]
