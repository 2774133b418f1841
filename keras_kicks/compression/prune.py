"""Magnitude pruning of Keras 3 models."""

import contextlib

import keras

from keras_kicks._errors import expect, expect_choice, expect_integer
from keras_kicks.compression._tfmot import expect_schedule
from keras_kicks.compression.keras_layers import all_layers, put
from keras_kicks.compression.prunable import prunable_kernels
from keras_kicks.compression.pruning_constraint import PruningConstraint

_ADDED = "pruning_of_"


def prune_low_magnitude(
    model,
    pruning_schedule,
    block_size=(1, 1),
    block_pooling_type="AVG",
    sparsity_m_by_n=None,
    layers=None,
    scope="layer",
):
    """Prepare a model for its smallest weights to become zero while it is trained.

    The model itself is changed, and returned: its kernels get a constraint that follows the schedule. It is trained as
    ever, with or without jit, under a mixed precision policy, under `MirroredStrategy`, with `steps_per_execution` and
    with the constraints that the layers have, which hold beside it. Prepare a model whose weights are those to start
    from. Until `strip_pruning`, its masks count among the non-trainable parameters of `summary` and `count_params`.

    A step is a batch for which the optimizer is applied, also where it accumulates gradients, counted from 1 from the
    call on, whatever the optimizer has done before. What TFMOT does at the begin of a step is done at the end of the
    one before.

    Saved as `.keras` in the middle, a model goes on from there. Only layers of one's own that have no attribute for the
    constraint, or that a model of one's own class makes, are prepared again after loading, and the weights loaded once
    more by `load_weights`; `PruningCallback` refuses to train a model that is not prepared. An optimizer with `use_ema`
    sets weights to averages when `fit` ends; `strip_pruning` and `PruningCallback` prune these.

    Args:
        model: A built Sequential, functional or subclassed model, or a layer. Dense, EinsumDense, convolutions (of
            separable ones the pointwise kernel), Embedding, recurrent layers, MultiHeadAttention, the layers of this
            library and layers with a method `get_prunable_weights()` are pruned, also in nested models.
        pruning_schedule: `ConstantSparsity`, `PolynomialDecay` or a schedule of one's own, of TFMOT.
        block_size: Rows and columns of blocks of weights that are pruned together, for kernels of rank 2.
        block_pooling_type: "AVG" or "MAX": what stands for the weights of a block.
        sparsity_m_by_n: (m, n) for m zeros in every n consecutive inputs of each output, from the first step on, or
            None. The schedule is not used then. For kernels of rank 2 and 4.
        layers: Layers, or their names, to prune; None for all.
        scope: "layer" for a threshold of each kernel, "global" for one of all kernels together.

    Returns:
        The model. If another model that holds it is compiled already, compile that again.

    Raises:
        ImportError: TFMOT is not installed.
        TypeError: `model` is no layer of Keras 3, `pruning_schedule` no schedule of TFMOT, a size no integer.
        ValueError: expected a built model with weights to prune, not pruned yet; a sparsity in [0, 1); block_size >= 1,
            of rank 2 kernels; block_pooling_type "AVG" or "MAX"; 0 < m < n, of kernels of rank 2 or 4; scope "layer" or
            "global", the second without blocks and m by n; layers of the model with weights to prune.

    Source:
        Zhu and Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878; Han et al., "Learning both Weights and
        Connections for Efficient Neural Networks", 2015, arXiv:1506.02626; TensorFlow Model Optimization Toolkit, whose
        schedules and masks these are.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.compression import ConstantSparsity, prune_low_magnitude, strip_pruning
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model = prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=0, frequency=1))
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
        >>> int((strip_pruning(model).layers[0].kernel.numpy() == 0).sum())
        4
    """
    owner = "prune_low_magnitude"
    expect_model(owner, model)
    expect_schedule(owner, pruning_schedule)
    _expect_pattern(owner, block_size, block_pooling_type, sparsity_m_by_n, scope)
    kernels = kernels_to_prune(owner, model, layers)
    for kernel in kernels:
        _expect_rank(owner, kernel.variable, block_size, sparsity_m_by_n)
    arguments = {
        "pruning_schedule": pruning_schedule,
        "block_size": block_size,
        "block_pooling_type": block_pooling_type,
        "sparsity_m_by_n": sparsity_m_by_n,
        "scope": scope,
    }
    with strategy_scope(model):
        attach(model, kernels, arguments)
        variables = [kernel.variable for kernel in kernels]
        for variable in variables:
            variable.constraint.begin(variable, variables)
    return model


def strip_pruning(model):
    """Remove what `prune_low_magnitude` added; the weights stay as they are, those that were pruned at zero.

    Args:
        model: A model that was prepared; it is changed, and returned.

    Returns:
        The model, with the constraints it had before. It is saved and loaded without this library again.

    Raises:
        TypeError: `model` is no layer of Keras 3.
        ValueError: expected a model that was prepared.
    """
    owner = "strip_pruning"
    expect_model(owner, model)
    variables = pruned_variables(model)
    expect(bool(variables), owner, "a model from prune_low_magnitude", model=model.name)
    remask(model)
    before = {id(variable.constraint): variable.constraint.constraint for variable in variables}
    for variable in variables:
        variable.constraint = before[id(variable.constraint)]
    for layer in all_layers(model):
        for name, value in list(vars(layer).items()):
            if id(value) in before:
                put(layer, name, before[id(value)])
                if name.startswith(_ADDED):
                    delattr(layer, name)
    _compile_anew(model)
    return model


def pruned_variables(model):
    """Return the kernels of a model that are prepared for pruning."""
    return [v for v in model.variables if isinstance(getattr(v, "constraint", None), PruningConstraint)]


def remask(model):
    """Set the pruned weights of a model to zero again, where something else than an optimizer has changed them."""
    with strategy_scope(model):
        for variable in pruned_variables(model):
            variable.constraint.remask(variable)


def kernels_to_prune(owner, model, layers):
    """Return the kernels of a model, or of some of its layers; raise unless there are any, and none is pruned yet."""
    kernels = prunable_kernels(model, owner, layers)
    expect(bool(kernels), owner, "a model with weights to prune", model=model.name)
    for kernel in kernels:
        pruned, path = isinstance(kernel.variable.constraint, PruningConstraint), kernel.variable.path
        expect(not pruned, owner, "weights that are not pruned yet", "Call strip_pruning first.", weight=path)
    return kernels


def attach(model, kernels, arguments):
    """Give each kernel a constraint, and the parts of an attention layer the one that Keras saves for them."""
    made = {}
    for kernel in kernels:
        before = kernel.variable.constraint
        # The last holder is what is saved. Its kernels share a constraint if it is not their own.
        key = (id(kernel.holders[-1][0]), kernel.holders[-1][1]) if kernel.holders else id(kernel.variable)
        if key not in made:
            made[key] = PruningConstraint(constraint=before, **arguments)
        made[key].cover(kernel.variable)
        kernel.variable.constraint = made[key]
        # Without an attribute of its own a layer still has to hold the masks, for them to be saved.
        for layer, name in kernel.holders or ((kernel.layer, f"{_ADDED}{kernel.variable.name}"),):
            put(layer, name, made[key])
    _compile_anew(model)


def strategy_scope(model):
    """Return the scope of the strategy under which a model was made; callbacks, for one, run outside it."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _compile_anew(model):
    """Drop the training step that was made for the constraints of before."""
    if getattr(model, "train_function", None) is not None:
        model.train_function = None


def expect_model(owner, model):
    """Raise unless `model` is a built model or layer of Keras 3."""
    remedy = "Models of tf_keras (Keras 2) have TFMOT itself."
    kind = f"{type(model).__module__}.{type(model).__name__}"
    expect(isinstance(model, keras.layers.Layer), owner, "a model of Keras 3", remedy, TypeError, model=kind)
    expect(model.built, owner, "a built model", "Call it on a batch first.", model=model.name)


def _expect_pattern(owner, block_size, block_pooling_type, sparsity_m_by_n, scope):
    expect_choice(owner, ("AVG", "MAX"), block_pooling_type=block_pooling_type)
    expect_choice(owner, ("layer", "global"), scope=scope)
    _expect_pair(owner, "block_size", block_size)
    expect(min(block_size) >= 1, owner, "block_size >= 1", block_size=block_size)
    if sparsity_m_by_n is not None:
        _expect_pair(owner, "sparsity_m_by_n", sparsity_m_by_n)
        m, n = sparsity_m_by_n
        expect(0 < m < n, owner, "0 < m < n", sparsity_m_by_n=sparsity_m_by_n)
    structured = tuple(block_size) != (1, 1) or sparsity_m_by_n is not None
    rule = 'scope="layer" with blocks or m by n'
    expect(scope == "layer" or not structured, owner, rule, scope=scope)
    single = sparsity_m_by_n is None or tuple(block_size) == (1, 1)
    expect(single, owner, "blocks or m by n, not both", block_size=block_size, sparsity_m_by_n=sparsity_m_by_n)


def _expect_pair(owner, name, value):
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    expect(pair, owner, f"two integers for {name}", error=TypeError, **{name: value})
    for number in value:
        expect_integer(owner, **{name: number})


def _expect_rank(owner, variable, block_size, sparsity_m_by_n):
    rank, path = len(variable.shape), variable.path
    remedy = "Name the `layers` that have such kernels."
    blocks = tuple(block_size) == (1, 1) or rank == 2
    expect(blocks, owner, "kernels of rank 2 for blocks", remedy, weight=path, rank=rank)
    pattern = sparsity_m_by_n is None or rank in (2, 4)
    expect(pattern, owner, "kernels of rank 2 or 4 for m by n", remedy, weight=path, rank=rank)
