"""The table of optimizers: every public one in one setting or more, and what belongs to it."""

import keras
import numpy as np
from optimizers import references as papers

import keras_kicks.optimizers as o

C = o.Chain
SHAPES = (4, 3), (5,)


def _decay():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


# By name: the function that makes one from keyword arguments.
OPTIMIZERS = {
    "GradientDescent": lambda **k: o.GradientDescent(0.1, **k),
    "SGD": lambda **k: o.SGD(0.1, **k),
    "Momentum": lambda **k: o.Momentum(0.1, 0.8, **k),
    "Nesterov": lambda **k: o.Nesterov(0.1, 0.8, **k),
    "AdaGrad": lambda **k: o.AdaGrad(0.1, **k),
    "ProximalAdaGrad": lambda **k: o.ProximalAdaGrad(0.1, 0.1, l1=0.05, l2=0.1, **k),
    "RMSProp": lambda **k: o.RMSProp(0.01, **k),
    "RMSProp, centered": lambda **k: o.RMSProp(0.01, 0.8, epsilon=1e-3, centered=True, **k),
    "Adam": lambda **k: o.Adam(0.01, **k),
    "Adam, not corrected": lambda **k: o.Adam(0.01, bias_correction=False, **k),
    "Adam, epsilon hat": lambda **k: o.Adam(0.01, epsilon=1e-3, epsilon_hat=True, **k),
    "Adam, amsgrad": lambda **k: o.Adam(0.01, beta_2=0.5, amsgrad=True, **k),
    "RectifiedAdam": lambda **k: o.RectifiedAdam(0.01, beta_2=0.9, **k),
    "AdaBelief": lambda **k: o.AdaBelief(0.01, epsilon=1e-8, **k),
    "Yogi": lambda **k: o.Yogi(0.01, **k),
    "Yogi, not corrected": lambda **k: o.Yogi(0.01, initial_accumulator=0.1, bias_correction=False, **k),
    "NovoGrad": lambda **k: o.NovoGrad(0.01, inner_weight_decay=0.1, **k),
    "NovoGrad, averaging": lambda **k: o.NovoGrad(0.01, grad_averaging=True, **k),
    "ConditionalGradient": lambda **k: o.ConditionalGradient(0.1, limit=3.0, **k),
    "ConditionalGradient, nuclear": lambda **k: o.ConditionalGradient(0.1, limit=3.0, norm="nuclear", **k),
    "Chain, scheduled": lambda **k: C([o.ScaleByMomentum(0.5)], _decay(), **k),
    "Chain, scheduled in cycles": lambda **k: C([o.ScaleByMomentum(0.5)], o.CyclicalLearningRate(0.01, 0.1, 2), **k),
    "Chain, ClipByGlobalNorm": lambda **k: C([o.ClipByGlobalNorm(0.5), o.ScaleByAdam()], 0.01, **k),
    "Chain, ClipByNorm": lambda **k: C([o.ClipByNorm(0.3)], 0.1, **k),
    "Chain, ClipByValue": lambda **k: C([o.ClipByValue(0.2)], 0.1, **k),
    "Chain, AdaptiveClip": lambda **k: C([o.AdaptiveClip(0.05, exclude=["other"])], 0.1, **k),
    "Chain, PercentileClip": lambda **k: C([o.PercentileClip(30, history=3)], 0.1, **k),
    "Chain, CentralizeGradient": lambda **k: C([o.CentralizeGradient(), o.ScaleByMomentum()], 0.1, **k),
    "Chain, GradientNoise": lambda **k: C([o.GradientNoise(0.1, seed=5)], 0.1, **k),
    "Chain, AddDecayedWeights": lambda **k: C([o.ScaleByAdam(), o.AddDecayedWeights(0.1, ["bias"])], 0.01, **k),
    "Chain, Proximal": lambda **k: C([o.ScaleByRMSProp(), o.Proximal(0.1, 0.1)], 0.01, **k),
    "Chain, Proximal, of norms": lambda **k: C([o.ScaleByAdam(), o.Proximal(0.1, 0.1, l2_norm=0.3)], 0.01, **k),
    "Chain, Proximal, not the biases": lambda **k: C([o.Proximal(0.1, exclude=["bias"])], 0.1, **k),
}

# By the same names: the paper's rule.
RULES = {
    "GradientDescent": papers.descent(0.1),
    "SGD": papers.descent(0.1),
    "Momentum": papers.momentum(0.1, 0.8),
    "Nesterov": papers.momentum(0.1, 0.8, nesterov=True),
    "AdaGrad": papers.adagrad(0.1),
    "ProximalAdaGrad": papers.adagrad(0.1, 0.1, l1=0.05, l2=0.1),
    "RMSProp": papers.rmsprop(0.01, 0.9),
    "RMSProp, centered": papers.rmsprop(0.01, 0.8, 1e-3, centered=True),
    "Adam": papers.adam(0.01),
    "Adam, not corrected": papers.adam(0.01, correct=False),
    "Adam, epsilon hat": papers.adam(0.01, epsilon=1e-3, hat=True),
    "Adam, amsgrad": papers.adam(0.01, b2=0.5, amsgrad=True),
    "RectifiedAdam": papers.radam(0.01, b2=0.9),
    "AdaBelief": papers.adabelief(0.01, epsilon=1e-8),
    "Yogi": papers.yogi(0.01),
    "Yogi, not corrected": papers.yogi(0.01, first=0.1, correct=False),
    "NovoGrad": papers.novograd(0.01, decay=0.1),
    "NovoGrad, averaging": papers.novograd(0.01, averaging=True),
    "ConditionalGradient": papers.frank_wolfe(0.1, 3.0),
    "ConditionalGradient, nuclear": papers.frank_wolfe(0.1, 3.0, nuclear=True),
}


def shapes_of(name):
    """Return the shapes of the variables that an optimizer of the table takes: a nuclear norm is that of a matrix."""
    return SHAPES[:1] if "nuclear" in name else SHAPES


def arrays(*shapes, seed=0, steps=None):
    """Return standard normal arrays, or a list of lists of them."""
    rng = np.random.default_rng(seed)

    def draw():
        return [rng.normal(size=shape).astype("float32") for shape in shapes]

    return draw() if steps is None else [draw() for _ in range(steps)]


def variables(*shapes, seed=0, dtype="float32"):
    """Return variables with these shapes."""
    names = ("kernel", "bias", "other", "more")
    return [
        keras.Variable(value, dtype=dtype, name=name)
        for value, name in zip(arrays(*shapes, seed=seed), names, strict=False)
    ]


def numbers(tensors):
    """Return NumPy arrays."""
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in tensors]


def close(a, b, tolerance=1e-6):
    """Assert that two lists of arrays are close."""
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def apply(optimizer, gradients, targets):
    """Make one step, without torch's record of it."""
    gradients = [g if g is None else keras.ops.convert_to_tensor(g) for g in gradients]
    if keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            optimizer.apply(gradients, targets)
    else:
        optimizer.apply(gradients, targets)


def _wrapped(wrapper, inner, *args, **settings):
    return lambda **k: wrapper(inner(**k), *args, **settings)


def _adam(**k):
    return keras.optimizers.Adam(0.01, **k)


WRAPPED = {
    **{
        f"GradientClipping, {by}": _wrapped(o.GradientClipping, _adam, by, limit)
        for by, limit in (("global_norm", 0.5), ("norm", 0.3), ("value", 0.1), ("adaptive", 0.05), ("percentile", 30))
    },
    "GradientClipping, skip": _wrapped(o.GradientClipping, _adam, "norm", 0.3, non_finite="skip"),
    "GradientClipping, raise": _wrapped(o.GradientClipping, _adam, "norm", 0.3, non_finite="raise"),
    "GradientClipping of a chain": _wrapped(o.GradientClipping, OPTIMIZERS["Adam"], "norm", 0.3),
    "GradientClipping of Lookahead": lambda **k: o.GradientClipping(o.Lookahead(_adam(**k), 2), "norm", 0.3),
    "Lookahead": _wrapped(o.Lookahead, _adam, 2, 0.5),
    "Lookahead of a chain": _wrapped(o.Lookahead, OPTIMIZERS["RMSProp"], 3, 0.3),
    "StochasticWeightAveraging": _wrapped(o.StochasticWeightAveraging, _adam, 2, 2),
}
OPTIMIZERS = {**OPTIMIZERS, **WRAPPED}
