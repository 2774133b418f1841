"""Ten steps of every optimizer and transform that optax has, against optax.

But for AMSGrad: optax takes the largest of the corrected squares; ours, as torch, corrects the largest.
"""

import numpy as np
import pytest
from optimizers.table import SHAPES, apply, arrays, numbers, variables

import keras_kicks.optimizers as o

optax = pytest.importorskip("optax", reason="optax is in the environment of the JAX backend.")

C, LR = o.Chain, 0.01
PEERS = {
    "SGD": (lambda: o.SGD(LR), lambda: optax.sgd(LR)),
    "Momentum": (lambda: o.Momentum(LR, 0.9), lambda: optax.sgd(LR, 0.9)),
    "Nesterov": (lambda: o.Nesterov(LR, 0.9), lambda: optax.sgd(LR, 0.9, nesterov=True)),
    # optax has epsilon within the root; here it is too small to be seen.
    "AdaGrad": (
        lambda: o.AdaGrad(LR, 0.1, epsilon=1e-10),
        lambda: optax.adagrad(LR, initial_accumulator_value=0.1, eps=1e-10),
    ),
    "RMSProp": (
        lambda: o.RMSProp(LR, 0.9, epsilon=1e-3),
        lambda: optax.rmsprop(LR, 0.9, eps=1e-3, eps_in_sqrt=False),
    ),
    "RMSProp, centered": (
        lambda: o.RMSProp(LR, 0.9, epsilon=1e-3, centered=True),
        lambda: optax.rmsprop(LR, 0.9, eps=1e-3, eps_in_sqrt=False, centered=True),
    ),
    "Adam": (lambda: o.Adam(LR), lambda: optax.adam(LR)),
    "AdamW": (
        lambda: C([o.ScaleByAdam(), o.AddDecayedWeights(0.1)], LR),
        lambda: optax.adamw(LR, weight_decay=0.1),
    ),
    "RectifiedAdam": (lambda: o.RectifiedAdam(LR, beta_2=0.9), lambda: optax.radam(LR, b2=0.9, threshold=4.0)),
    "AdaBelief": (lambda: o.AdaBelief(LR), lambda: optax.adabelief(LR, eps=1e-16, eps_root=1e-16)),
    # optax adds epsilon to the corrected root, and starts both means at the first value.
    "Yogi": (
        lambda: o.Yogi(LR, epsilon=1e-8, initial_accumulator=1e-12),
        lambda: optax.chain(optax.scale_by_yogi(eps=1e-8, initial_accumulator_value=1e-12), optax.sgd(LR)),
    ),
    "NovoGrad": (
        lambda: o.NovoGrad(LR, 0.9, 0.25, inner_weight_decay=0.1),
        lambda: optax.novograd(LR, weight_decay=0.1),
    ),
    "ClipByGlobalNorm": (
        lambda: C([o.ClipByGlobalNorm(0.5), o.ScaleByAdam()], LR),
        lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(LR)),
    ),
    "ClipByNorm": (
        lambda: C([o.ClipByNorm(0.5)], LR),
        lambda: optax.chain(_by_norm(0.5), optax.sgd(LR)),
    ),
    "ClipByValue": (lambda: C([o.ClipByValue(0.3)], LR), lambda: optax.chain(optax.clip(0.3), optax.sgd(LR))),
    "AdaptiveClip": (
        lambda: C([o.AdaptiveClip(0.05)], LR),
        lambda: optax.chain(optax.adaptive_grad_clip(0.05), optax.sgd(LR)),
    ),
    "CentralizeGradient": (
        lambda: C([o.CentralizeGradient()], LR),
        lambda: optax.chain(_centralize(), optax.sgd(LR)),
    ),
}


def _by_norm(limit):
    """Clip each tensor by its own norm, which optax does with a label for each."""
    labels = {i: str(i) for i in range(len(SHAPES))}
    return optax.multi_transform({label: optax.clip_by_global_norm(limit) for label in labels.values()}, labels)


def _centralize():
    """Centralize kernels of Keras, whose outputs are the last axis; for optax they are the first."""

    def update(updates, params):
        turned, _ = optax.centralize().update({i: np.asarray(g).T for i, g in updates.items()}, optax.EmptyState())
        return {i: g.T for i, g in turned.items()}

    return optax.stateless(update)


@pytest.mark.parametrize("name", PEERS)
def test_ten_steps_of_optax(name):
    ours, theirs = PEERS[name]
    targets, gradients = variables(*SHAPES), arrays(*SHAPES, seed=1, steps=10)
    copies, optimizer, peer = dict(enumerate(numbers(targets))), ours(), theirs()
    state = peer.init(copies)
    for step in gradients:
        apply(optimizer, step, targets)
        updates, state = peer.update(dict(enumerate(step)), state, copies)
        copies = optax.apply_updates(copies, updates)
        for target, copy in zip(numbers(targets), copies.values(), strict=True):
            np.testing.assert_allclose(target, copy, rtol=2e-5, atol=2e-6)


def test_lookahead_of_optax():
    targets, gradients = variables(*SHAPES), arrays(*SHAPES, seed=1, steps=10)
    optimizer, peer = o.Lookahead(o.Adam(LR), 3, 0.4), optax.lookahead(optax.adam(LR), 3, 0.4)
    params = optax.LookaheadParams.init_synced(dict(enumerate(numbers(targets))))
    state = peer.init(params)
    for step in gradients:
        apply(optimizer, step, targets)
        updates, state = peer.update(dict(enumerate(step)), state, params)
        params = optax.apply_updates(params, updates)
        for target, fast in zip(numbers(targets), params.fast.values(), strict=True):
            np.testing.assert_allclose(target, fast, rtol=2e-5, atol=2e-6)
