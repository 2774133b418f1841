"""What do masks on the weights cost?"""

import keras
import numpy as np

from benchmarks.harness import Result, Target, race
from benchmarks.steps import labelled, tensorflow_step, torch_step
from keras_kicks.layers import DropConnect


def run(smoke=False):
    """Time a step of Dense(1024) on (256, 1024)."""
    import torch

    units = 16 if smoke else 1024
    x = np.random.default_rng(0).normal(size=(256, 16 if smoke else 1024)).astype("float32")
    dense = keras.layers.Dense(units)
    dense.build(x.shape)
    batch, sample = DropConnect(dense, 0.5, seed=0), DropConnect(dense, 0.5, mask="sample", seed=0)
    weight = torch.tensor(dense.kernel.numpy().T.copy(), requires_grad=True)
    bias = torch.zeros(units, requires_grad=True)
    linear = torch.nn.functional.linear
    np.testing.assert_allclose(batch(x).numpy(), linear(torch.tensor(x), weight, bias).detach().numpy(), atol=1e-4)
    results = []
    for jit in (False, True):
        weights = dense.trainable_variables
        contestants = {
            "keras_kicks, a mask a batch": tensorflow_step(lambda x: batch(x, training=True), weights, [x], jit),
            "Dense": tensorflow_step(dense, weights, [x], jit),
            "torch, a mask a batch": torch_step(
                lambda x: linear(x, torch.nn.functional.dropout(weight, 0.5), bias), [weight, bias], [x]
            ),
        }
        times = race(contestants, 3 if smoke else 60)
        target = Target("keras_kicks, a mask a batch", "Dense", 1.25)
        results.append(Result(f"DropConnect(Dense({units})) on {x.shape}, {labelled(jit)}", "ms", times, [target]))
    contestants = {
        "keras_kicks, a mask a sample": tensorflow_step(lambda x: sample(x, training=True), weights, [x], False),
        "torch, a mask a sample": torch_step(lambda x: _sampled(x, weight, bias), [weight, bias], [x]),
    }
    title = f"DropConnect(Dense({units}), mask='sample') on {x.shape}, jit off"
    return [*results, Result(title, "ms", race(contestants, 2 if smoke else 5, warmup=1), [])]


def _sampled(x, weight, bias):
    """The plain formulation: all masks at once."""
    import torch

    masks = torch.nn.functional.dropout(torch.ones((len(x), *weight.shape)), 0.5)
    return torch.einsum("bi,boi->bo", x, masks * weight) + bias
