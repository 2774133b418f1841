"""Five steps of every optimizer against a reading of its paper in NumPy, and against torch's where it has it."""

import keras
import numpy as np
import pytest
from optimizers import references
from optimizers.table import OPTIMIZERS, RULES, SHAPES, apply, arrays, numbers, shapes_of, variables

import keras_kicks.optimizers as o


@pytest.mark.parametrize("name", RULES)
def test_five_steps_of_the_paper(name):
    shapes = shapes_of(name)
    targets, gradients = variables(*shapes), arrays(*shapes, seed=1, steps=5)
    first = numbers(targets)
    optimizer = OPTIMIZERS[name]()
    for step in range(5):
        apply(optimizer, gradients[step], targets)
        for i, target in enumerate(numbers(targets)):
            expected = references.run(RULES[name], first[i], [g[i] for g in gradients])[step]
            np.testing.assert_allclose(target, expected, rtol=2e-5, atol=2e-6)
    assert int(optimizer.iterations) == 5


PEERS = {
    "SGD": (lambda: o.SGD(0.1), lambda torch, w: torch.optim.SGD(w, 0.1)),
    "Momentum": (lambda: o.Momentum(0.1, 0.9), lambda torch, w: torch.optim.SGD(w, 0.1, 0.9)),
    "Nesterov": (lambda: o.Nesterov(0.1, 0.9), lambda torch, w: torch.optim.SGD(w, 0.1, 0.9, nesterov=True)),
    "AdaGrad": (lambda: o.AdaGrad(0.1), lambda torch, w: torch.optim.Adagrad(w, 0.1)),
    "RMSProp": (lambda: o.RMSProp(0.01, 0.99), lambda torch, w: torch.optim.RMSprop(w, 0.01)),
    "RMSProp, centered": (
        lambda: o.RMSProp(0.01, 0.99, centered=True),
        lambda torch, w: torch.optim.RMSprop(w, 0.01, centered=True),
    ),
    "Adam": (lambda: o.Adam(0.01), lambda torch, w: torch.optim.Adam(w, 0.01)),
    "AMSGrad": (lambda: o.Adam(0.01, amsgrad=True), lambda torch, w: torch.optim.Adam(w, 0.01, amsgrad=True)),
    "RectifiedAdam": (lambda: o.RectifiedAdam(0.01, threshold=5.0), lambda torch, w: torch.optim.RAdam(w, 0.01)),
    "AdamW": (
        lambda: o.Chain([o.ScaleByAdam(), o.AddDecayedWeights(0.1)], 0.01),
        lambda torch, w: torch.optim.AdamW(w, 0.01, weight_decay=0.1),
    ),
    "AdamW of Keras's argument": (
        lambda: o.Adam(0.01, weight_decay=0.1),
        lambda torch, w: torch.optim.AdamW(w, 0.01, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_ten_steps_of_torch(name):
    torch = pytest.importorskip("torch")
    ours, theirs = PEERS[name]
    targets, gradients = variables(*SHAPES), arrays(*SHAPES, seed=1, steps=10)
    copies = [torch.tensor(x, requires_grad=True) for x in numbers(targets)]
    optimizer, peer = ours(), theirs(torch, copies)
    for step in gradients:
        apply(optimizer, step, targets)
        for copy, g in zip(copies, step, strict=True):
            copy.grad = torch.tensor(g)
        peer.step()
    for target, copy in zip(numbers(targets), copies, strict=True):
        np.testing.assert_allclose(target, copy.detach().numpy(), rtol=1e-5, atol=2e-6)


def test_the_two_forms_of_adam_differ_by_where_epsilon_is():
    """sqrt(v') + epsilon is sqrt(v) + sqrt(1 - beta_2^t) epsilon, up to the factor before."""
    targets, gradients = variables((4,)), arrays((4,), seed=1)
    others = variables((4,))
    apply(o.Adam(0.1, epsilon=0.5), gradients, targets)
    apply(o.Adam(0.1, epsilon=0.5 * np.sqrt(1 - 0.999), epsilon_hat=True), gradients, others)
    np.testing.assert_allclose(*numbers(targets + others), rtol=1e-5)


def test_adam_of_keras_is_a_chain():
    targets, others, gradients = variables(*SHAPES), variables(*SHAPES), arrays(*SHAPES, seed=1, steps=6)
    settings = {"weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}
    ours = o.Adam(0.01, epsilon=1e-7, epsilon_hat=True, global_clipnorm=1.0, **settings)
    theirs = keras.optimizers.Adam(0.01, global_clipnorm=1.0, **settings)
    for step in gradients:
        apply(ours, step, targets)
        apply(theirs, step, others)
        for a, b in zip(numbers(targets), numbers(others), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
