"""The hand-written kernels against their definitions, run in every way TensorFlow has."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.ops import group_norm, maxout, position_sums, rrelu, smoothed_crossentropy
from keras_kicks.ops.random import LEVELS


def array(x):
    return np.array(ops.convert_to_numpy(x))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def group_norm_case(groups, channel_axis):
    def pair(form):
        return lambda x, gamma, beta: form(x, gamma, beta, groups, 1e-3, channel_axis)

    shape = (3, 10, 6) if channel_axis == 2 else (3, 6, 10)
    forms = pair(group_norm.group_norm), pair(group_norm.group_norm_reference)
    return *forms, [normal(*shape), normal(6, seed=1), normal(6, seed=2)]


def maxout_case(pool_size, grouping):
    def pair(form):
        return lambda x: form(x, pool_size, grouping)

    return pair(maxout.maxout), pair(maxout.maxout_reference), [normal(5, 3, 12)]


def crossentropy_case(noise):
    ids = ops.convert_to_tensor(np.arange(6) % 4, dtype="int32")
    noise = np.full((1, 1), 0.2, "float32") if noise is None else noise
    noise = noise if noise.size == 1 else noise / noise.sum(axis=-1, keepdims=True)

    def pair(form):
        return lambda x: form(x, ids, ops.convert_to_tensor(noise), 0.3)

    forms = smoothed_crossentropy.smoothed_crossentropy, smoothed_crossentropy.smoothed_crossentropy_reference
    return *map(pair, forms), [normal(6, 5)]


KERNELS = {
    "group-norm-last": lambda: group_norm_case(3, 2),
    "group-norm-first": lambda: group_norm_case(2, 1),
    "group-norm-instance": lambda: group_norm_case(6, 2),
    "group-norm-layer": lambda: group_norm_case(1, 1),
    "maxout-consecutive": lambda: maxout_case(3, "consecutive"),
    "maxout-strided": lambda: maxout_case(4, "strided"),
    "maxout-one": lambda: maxout_case(1, "strided"),
    "crossentropy-uniform": lambda: crossentropy_case(None),
    "crossentropy-prior": lambda: crossentropy_case(np.abs(normal(1, 5))),
    "crossentropy-random": lambda: crossentropy_case(np.abs(normal(6, 5))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_fast_form_has_the_values_of_the_definition(name):
    fast, reference, inputs = KERNELS[name]()
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    np.testing.assert_allclose(array(fast(*tensors)), array(reference(*tensors)), rtol=1e-5, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_values_and_gradients_are_those_of_the_definition(name, jit_compile, unknown):
    import tensorflow as tf

    fast, reference, inputs = KERNELS[name]()
    upstream = normal(*reference(*map(tf.constant, inputs)).shape, seed=3)

    def run(form):
        def gradients(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                y = form(*tensors)
            return y, *tape.gradient(y, tensors, output_gradients=upstream)

        return gradients

    expected = run(reference)(*map(tf.constant, inputs))
    compiled = run(fast)
    if jit_compile is not None:
        first = tf.TensorSpec((None, *inputs[0].shape[1:]) if unknown else inputs[0].shape)
        signature = [first, *(tf.TensorSpec(x.shape) for x in inputs[1:])]
        compiled = tf.function(compiled, input_signature=signature, jit_compile=jit_compile)
    for got, value in zip(compiled(*map(tf.constant, inputs)), expected, strict=True):
        np.testing.assert_allclose(got.numpy(), value.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrong", [-1, 5, 100])
def test_the_crossentropy_of_an_unknown_class_is_nan(wrong):
    logits, noise = normal(3, 5), np.full((1, 1), 0.2, "float32")
    tensors = (ops.convert_to_tensor(x) for x in (logits, np.array([0, wrong, 4], "int32"), noise))
    loss = array(smoothed_crossentropy.smoothed_crossentropy(*tensors, 0.1))
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])


@pytest.mark.parametrize("length", [1, 7, 12, 16, 30, 64, 0])
@pytest.mark.parametrize("axis", [1, 2])
def test_sums_over_positions_are_those_of_numpy(length, axis):
    x, y = (normal(*((3, length, 5) if axis == 1 else (3, 5, length)), seed=seed) for seed in (0, 1))
    expected = (x.astype("float64") * y).sum(axis=axis, keepdims=True)
    got = position_sums.sum_positions(lambda x, y: x * y, ops.convert_to_tensor(x), ops.convert_to_tensor(y), axis=axis)
    np.testing.assert_allclose(array(got), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_slopes_are_one_above_zero_and_spread_evenly_below(dtype):
    x = ops.convert_to_tensor(np.array([-1.0, -1.0, 0.0, 2.0]), dtype=dtype)
    levels = ops.convert_to_tensor([0, LEVELS - 1, LEVELS // 2, 5], dtype="int32")
    slopes = rrelu.random_slopes(x, levels, 0.25, 0.5)
    assert keras.backend.standardize_dtype(slopes.dtype) == dtype
    half = 0.25 / LEVELS / 2
    np.testing.assert_allclose(array(slopes), [0.25 + half, 0.5 - half, 0.375 + half, 1.0], rtol=2.0**-10)
