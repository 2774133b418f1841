"""Magnitude pruning: which weights, in which models, in which ways of training."""

import keras
import numpy as np
import pytest
from compression import pruned_models
from compression.pruned_models import MODELS, L, sequential, sparsity

from keras_kicks.compression import ConstantSparsity, PolynomialDecay, prune_low_magnitude, strip_pruning
from keras_kicks.compression.magnitude import kth_largest
from keras_kicks.compression.prune import pruned_variables

pytestmark = pytest.mark.tensorflow
HALF = {"target_sparsity": 0.5, "begin_step": 3, "frequency": 4}


def half(size):
    """Share of zeros when half of `size` weights is kept, rounded half to even."""
    return 1 - round(size * 0.5) / size


def fitted(model, x, y, optimizer="sgd", **kwargs):
    model.compile(optimizer, "mse", jit_compile=kwargs.pop("jit_compile", False), **kwargs)
    model.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    return model


def data(model):
    if isinstance(model, pruned_models.Subclassed):
        random = np.random.default_rng(0)
        return random.normal(size=(96, 6)).astype("float32"), random.normal(size=(96, 2)).astype("float32")
    return pruned_models.data(model)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_all_kinds_are_pruned_and_stripped(name):
    make, count = MODELS[name]
    model = make()
    before = len(model.variables)
    prune_low_magnitude(model, ConstantSparsity(**HALF))
    kernels = pruned_variables(model)
    assert len(kernels) == count
    fitted(model, *data(model))
    for kernel in kernels:
        assert sparsity(kernel) == half(int(np.prod(kernel.shape)))
    trained = [kernel.numpy() for kernel in kernels]
    strip_pruning(model)
    assert len(model.variables) == before
    for kernel, values in zip(kernels, trained, strict=True):
        assert kernel.constraint is None
        np.testing.assert_array_equal(kernel.numpy(), values)
    # Nothing is pruned any more, though the model was compiled for it.
    model.fit(*data(model), verbose=0)
    assert all(sparsity(kernel) < 0.5 for kernel in kernels)


def numpy_masks(history, schedule, begin):
    """The definition in NumPy: which of the weights, as they were before the mask, are kept in each step."""
    masks, mask = [], np.ones(history[0].shape, bool)
    for step, weights in enumerate(history, begin):
        if step in schedule:
            magnitudes = np.sort(np.abs(weights), axis=None)
            mask = np.abs(weights) >= magnitudes[round(weights.size * schedule[step])]
        masks.append(mask)
    return masks


def test_masks_are_those_of_numpy():
    """With a gradient of zero a weight changes only by pruning: the smallest go, and go first."""
    model = sequential(L.Dense(10, use_bias=False), shape=(10,))
    weights = model.layers[0].kernel.numpy()
    schedule = PolynomialDecay(0.2, 0.8, begin_step=2, end_step=6, power=1, frequency=2)
    prune_low_magnitude(model, schedule)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.ones((8, 10), "float32")
    expected = numpy_masks([weights] * 8, {2: 0.2, 4: 0.5, 6: 0.8}, begin=2)
    for mask in expected:
        model.train_on_batch(x, x)
        np.testing.assert_array_equal(model.layers[0].kernel.numpy(), weights * mask)


def test_one_threshold_serves_all_kernels():
    model = sequential(L.Dense(10, use_bias=False), L.Dense(7, use_bias=False), shape=(10,))
    kernels = [layer.kernel for layer in model.layers]
    kernels[0].assign(kernels[0] * 5)
    before = [kernel.numpy() for kernel in kernels]
    threshold = np.sort(np.abs(np.concatenate([values.ravel() for values in before])))[round(170 * 0.6)]
    prune_low_magnitude(model, ConstantSparsity(0.6, begin_step=3, frequency=100), scope="global")
    fitted(model, np.ones((32, 10)), np.ones((32, 7)), keras.optimizers.SGD(0.0))
    for kernel, values in zip(kernels, before, strict=True):
        np.testing.assert_array_equal(kernel.numpy(), np.where(np.abs(values) >= threshold, values, 0))
    assert sparsity(kernels[0]) < 0.5 < 0.7 < sparsity(kernels[1])


def test_one_threshold_knows_of_frozen_layers_and_of_other_schedules():
    layers = [L.Dense(10, name=name, use_bias=False) for name in ("a", "b", "c")]
    model = sequential(*layers, shape=(10,))
    layers[0].kernel.assign(layers[0].kernel * 100)
    prune_low_magnitude(model, ConstantSparsity(0.5, 15, frequency=2), scope="global", layers=["a", "b"])
    prune_low_magnitude(model, ConstantSparsity(0.9, 15, frequency=2), scope="global", layers="c")
    x, y = data(model)
    optimizer = keras.optimizers.SGD(1e-6)
    fitted(model, x, y, optimizer)
    # Frozen when the optimizer has seen it.
    layers[0].trainable = False
    fitted(model, x, y, optimizer)
    assert [sparsity(layer.kernel) for layer in layers] == [0.0, 0.5, pytest.approx(0.9)]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_several_steps_in_one_execution_are_the_same(scope, jit_compile):
    kernels = []
    for steps in (1, 4):
        keras.utils.set_random_seed(0)
        model = MODELS["dense"][0]()
        prune_low_magnitude(model, PolynomialDecay(0.1, 0.8, 1, 12, frequency=3), scope=scope)
        fitted(model, *data(model), "adam", steps_per_execution=steps, jit_compile=jit_compile)
        kernels.append([kernel.numpy() for kernel in pruned_variables(model)])
    total = sum(values.size for values in kernels[0])
    assert sum((values == 0).sum() for values in kernels[0]) == pytest.approx(0.8 * total, abs=1.5)
    for one, four in zip(*kernels, strict=True):
        np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one == 0, four == 0)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"])
def test_precisions(policy, jit_compile):
    keras.config.set_dtype_policy(policy)
    model = sequential(L.Dense(9, "relu"), L.Dense(2))
    prune_low_magnitude(model, ConstantSparsity(**HALF), scope="global")
    optimizer = keras.optimizers.Adam(0.01)
    if policy == "mixed_float16":
        # Below the scale at which the first steps would be left out.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    fitted(model, *data(model), optimizer, jit_compile=jit_compile)
    variable = policy if policy in ("bfloat16", "float64") else "float32"
    assert {kernel.dtype for kernel in pruned_variables(model)} == {variable}
    # Of 72 weights 36 are kept; weights of 16 bits may be as large as each other.
    kept = sum((kernel.numpy() != 0).sum() for kernel in pruned_variables(model))
    assert 36 <= kept <= (40 if policy == "bfloat16" else 36)
    assert np.isfinite(model.predict(np.ones((1, 6)), verbose=0).astype("float32")).all()


@pytest.mark.parametrize("frequency", [2, None])
def test_averages_of_weights_are_pruned(frequency):
    model = sequential(L.Dense(8, use_bias=False))
    prune_low_magnitude(model, ConstantSparsity(**HALF))
    fitted(model, *data(model), keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=frequency))
    strip_pruning(model)
    assert sparsity(model.layers[0].kernel) == 0.5


def test_a_step_is_a_batch_also_where_gradients_are_accumulated():
    model = sequential(L.Dense(8, use_bias=False))
    # A step whose gradient is only accumulated.
    prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=3, frequency=100))
    kernel = model.layers[0].kernel
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), "mse")
    x, y = data(model)
    seen = []
    for step in range(6):
        model.train_on_batch(x[8 * step : 8 * step + 8], y[8 * step : 8 * step + 8])
        seen.append(sparsity(kernel))
    assert seen == [0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert int(model.optimizer.iterations.numpy()) == 1


def test_steps_count_on_from_one_fit_to_the_next():
    model = sequential(L.Dense(8, use_bias=False))
    prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=14, frequency=100))
    x, y = data(model)
    fitted(model, x, y)
    assert sparsity(model.layers[0].kernel) == 0
    fitted(model, x, y)
    assert sparsity(model.layers[0].kernel) == 0.5


@keras.saving.register_keras_serializable(package="tests")
class AddOne(keras.constraints.Constraint):
    def __call__(self, w):
        return w + 1.0


@pytest.mark.parametrize("name", ["UnitNorm", "NonNeg", "AddOne"])
def test_the_constraints_of_the_user_hold_too(name):
    constraint = AddOne() if name == "AddOne" else getattr(keras.constraints, name)()
    model = sequential(L.Dense(8, kernel_constraint=constraint, use_bias=False))
    prune_low_magnitude(model, ConstantSparsity(**HALF))
    fitted(model, *data(model), keras.optimizers.SGD(0.2))
    kernel = model.layers[0].kernel.numpy()
    if name == "UnitNorm":
        np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, rtol=1e-5)
    if name == "NonNeg":
        assert kernel.min() == 0
    assert sparsity(kernel) == 0.5 if name != "NonNeg" else sparsity(kernel) >= 0.5
    assert strip_pruning(model).layers[0].kernel_constraint is constraint


def test_only_the_layers_that_are_named_are_pruned():
    model = pruned_models.nested()
    prune_low_magnitude(model, ConstantSparsity(**HALF), layers=[model.get_layer("inner"), "shared"])
    assert {kernel.path.split("/")[-2] for kernel in pruned_variables(model)} == {"dense", "shared"}
    assert not isinstance(model.layers[-1].kernel_constraint, keras.layers.Layer)
    assert len(pruned_variables(model)) == 2


def test_a_model_that_was_trained_before_is_pruned_without_compiling_it_anew():
    model = sequential(L.Dense(8, use_bias=False))
    x, y = data(model)
    fitted(model, x, y)
    prune_low_magnitude(model, ConstantSparsity(**HALF))
    model.fit(x, y, batch_size=8, verbose=0)
    assert sparsity(model.layers[0].kernel) == 0.5


def test_zeros_have_no_sign():
    """Zeros of either sign would not compress as well; by the first step, which is eager, and by those of a graph."""
    model = sequential(L.Dense(8, use_bias=False))
    prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=1, frequency=4))
    kernel = model.layers[0].kernel
    before = kernel.numpy()
    fitted(model, *data(model))
    for values in (before, kernel.numpy()):
        assert sparsity(values) == 0.5
        assert not np.signbit(values[values == 0]).any()


@pytest.mark.parametrize("shape", [(5, 1), (1, 8), (3, 2), (7, 5)])
@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
def test_blocks_of_kernels_of_all_shapes(shape, pooling):
    """Kernels that are no multiple of a block, or that have one row of blocks alone; TFMOT fails at the latter.

    Where a block juts out by more than one weight, TFMOT pools another one than it prunes, and so do we.
    """
    model = sequential(L.Dense(shape[1], use_bias=False), shape=(shape[0],))
    weights = model.layers[0].kernel.numpy()
    starts = [range(0, length, size) for length, size in zip(shape, (2, 3), strict=True)]
    pool = {"AVG": np.mean, "MAX": np.max}[pooling]
    blocks = {(i, j): pool(np.abs(weights[i : i + 2, j : j + 3])) for i in starts[0] for j in starts[1]}
    kept = sorted(blocks, key=blocks.get, reverse=True)[: max(round(len(blocks) * 0.5), 1)]
    expected = np.zeros(shape, bool)
    for i, j in kept:
        expected[i : i + 2, j : j + 3] = True
    schedule = ConstantSparsity(0.5, begin_step=1, frequency=1)
    prune_low_magnitude(model, schedule, block_size=(2, 3), block_pooling_type=pooling)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), weights * expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kth_largest_is_that_of_a_sort(dtype):
    random = np.random.default_rng(0)
    values = np.abs(random.normal(size=200) * 10.0 ** random.integers(-38, 38, size=200)).astype(dtype)
    values[:20] = 0
    values[20:40] = values[40]
    values[60] = np.inf
    for k in (1, 2, 50, 100, 175, 180, 181, 200):
        assert kth_largest(keras.ops.convert_to_tensor(values), k).numpy() == np.sort(values)[::-1][k - 1]
