"""Pruning in rounds: prune a little, train, prune more."""

import dataclasses

from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number
from keras_kicks.compression.prune import (
    attach,
    expect_model,
    kernels_to_prune,
    remask,
    strategy_scope,
    strip_pruning,
)
from keras_kicks.compression.pruning_constraint import global_threshold


@dataclasses.dataclass(frozen=True)
class PruningRound:
    """What a round has come to.

    Attributes:
        number: 0 for the model before it was pruned, then from 1.
        sparsity: Share of the weights to prune that are zero.
        score: What `score` returned, or None.
        kept: False for a last round whose score was too low, and whose weights were taken back.
    """

    number: int
    sparsity: float
    score: float | None
    kept: bool


def prune_iteratively(model, train, final_sparsity, rounds, score=None, min_score=None, scope="global", layers=None):
    """Prune a model in rounds, of which each prunes the smallest weights that are left and trains those that remain.

    A share 1 - final_sparsity of the weights is left after the last round, and after each round the same share of those
    before it: density = (1 - final_sparsity)^(round / rounds), for a model without zeros. What is zero stays zero while
    `train` runs. With one round this is one-shot pruning; more rounds keep more of the accuracy and cost more training.

    Args:
        model: What `prune_low_magnitude` takes, with trained weights. It is changed.
        train: Function of the model that trains it, as `lambda model: model.fit(x, y, epochs=2)`. The model is
            compiled before, or in it.
        final_sparsity: Share of the weights to prune, in (0, 1).
        rounds: Number of rounds, >= 1.
        score: Function of the model that returns how good it is, the more the better, as accuracy on validation data.
        min_score: Score that the model is not to fall below: in the first round in which it does, pruning ends, and
            the weights of the round before are restored (not the state of the optimizer).
        scope: "global" for one threshold of all weights, so that layers which can spare more lose more; "layer" for
            the same sparsity in each.
        layers: Layers, or their names, to prune; None for all.

    Returns:
        A list of `PruningRound` (number, sparsity, score, kept), with the model before pruning as number 0. The model
        is as after `strip_pruning`, also after an error.

    Raises:
        TypeError: `train` or `score` is no function, a number no number, `model` no layer of Keras 3.
        ValueError: expected 0 < final_sparsity < 1; rounds >= 1; scope "global" or "layer"; a score with min_score; a
            model that scores min_score before it is pruned; finite scores; a model that can be pruned, and is not as
            sparse already.

    Source:
        Han, Pool, Tran and Dally, "Learning both Weights and Connections for Efficient Neural Networks", 2015,
        arXiv:1506.02626. Departure: one threshold for all layers, by default.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
        >>> model.compile("sgd", "mse")
        >>> x = np.eye(8)
        >>> history = prune_iteratively(model, lambda m: m.fit(x, x, verbose=0), final_sparsity=0.75, rounds=2)
        >>> [round.sparsity for round in history]
        [0.0, 0.5, 0.75]
    """
    owner = "prune_iteratively"
    expect_model(owner, model)
    _expect_arguments(owner, train, final_sparsity, rounds, score, min_score, scope)
    kernels = kernels_to_prune(owner, model, layers)
    variables = [kernel.variable for kernel in kernels]
    history = [PruningRound(0, _sparsity(variables), _scored(owner, score, model), True)]
    start = history[0]
    dense = start.sparsity < final_sparsity
    expect(dense, owner, "a model that is less sparse", final_sparsity=final_sparsity, sparsity=start.sparsity)
    rule, remedy = "a model that scores min_score before it is pruned", "Train it first, or lower min_score."
    good = min_score is None or start.score >= min_score
    expect(good, owner, rule, remedy, score=start.score, min_score=min_score)
    groups = [variables] if scope == "global" else [[variable] for variable in variables]
    densities = [1 - _sparsity(group) for group in groups]
    with strategy_scope(model):
        attach(model, kernels, {"scope": scope})
    try:
        for number in range(1, rounds + 1):
            before = _values(model) if min_score is not None else None
            for group, density in zip(groups, densities, strict=True):
                left = density ** (1 - number / rounds) * (1 - final_sparsity) ** (number / rounds)
                _prune(model, group, 1 - left)
            train(model)
            remask(model)
            reached = _scored(owner, score, model)
            kept = min_score is None or reached >= min_score
            history.append(PruningRound(number, _sparsity(variables), reached, kept))
            if not kept:
                _restore(model, before)
                break
    finally:
        strip_pruning(model)
    return history


def _expect_arguments(owner, train, final_sparsity, rounds, score, min_score, scope):
    remedy = "Pass lambda model: model.fit(...)."
    expect(callable(train), owner, "a function of the model for train", remedy, TypeError, train=train)
    expect_number(owner, final_sparsity=final_sparsity)
    expect(0 < final_sparsity < 1, owner, "0 < final_sparsity < 1", final_sparsity=final_sparsity)
    expect_integer(owner, rounds=rounds)
    expect(rounds >= 1, owner, "rounds >= 1", rounds=rounds)
    function = score is None or callable(score)
    expect(function, owner, "a function of the model for score", error=TypeError, score=score)
    expect_choice(owner, ("global", "layer"), scope=scope)
    if min_score is not None:
        expect_number(owner, min_score=min_score)
        remedy = "Pass a function of the model that returns it."
        expect(score is not None, owner, "a score with min_score", remedy, score=score, min_score=min_score)


def _prune(model, variables, sparsity):
    """Prune what shares a threshold."""
    with strategy_scope(model):
        threshold = global_threshold([variable.value for variable in variables], sparsity)
        for variable in variables:
            variable.constraint.update(variable, threshold)


def _scored(owner, score, model):
    if score is None:
        return None
    value = ops.convert_to_numpy(score(model)).item()
    expect_number(owner, "score returned it; it has to return one number.", score=value)
    return value


def _sparsity(variables):
    values = [ops.convert_to_numpy(variable) for variable in variables]
    return sum(int((value == 0).sum()) for value in values) / sum(value.size for value in values)


def _values(model):
    return [ops.convert_to_numpy(variable).copy() for variable in model.variables]


def _restore(model, values):
    with strategy_scope(model):
        for variable, value in zip(model.variables, values, strict=True):
            variable.assign(value)
