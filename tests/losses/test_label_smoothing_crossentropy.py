"""LabelSmoothingCrossentropy against torch, NumPy and the closed form of its optimum."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import LabelSmoothingCrossentropy

BACKEND = keras.backend.backend()


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def labels(classes, *shape):
    return np.random.default_rng(1).integers(0, classes, shape)


def by_numpy(z, y, alpha, noise=None):
    """The definition, in float64, over the last axis; the noise is uniform by default."""
    z = z.astype("float64")
    classes = z.shape[-1]
    log_p = z - z.max(axis=-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    q = (1 - alpha) * np.eye(classes)[y] + alpha * (1 / classes if noise is None else np.asarray(noise))
    return -(q * log_p).sum(axis=-1)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.9])
def test_values_are_those_of_torch(one_hot, alpha):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    z, y = drawn(9, 5), labels(5, 9)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=alpha)(torch.tensor(z), torch.tensor(y))
    got = LabelSmoothingCrossentropy(alpha)(np.eye(5, dtype="float32")[y] if one_hot else y, z)
    assert float(got) == pytest.approx(float(expected), rel=1e-5)


def test_ignored_samples_are_left_out_as_in_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    z, y = drawn(9, 4, 5), labels(5, 9, 4)
    y[::2, 1] = 255
    peer = torch.nn.CrossEntropyLoss(label_smoothing=0.2, ignore_index=255)
    expected = float(peer(torch.tensor(z).movedim(-1, 1), torch.tensor(y)))
    for dtype in ("int64", "int32", "uint8", "float32"):
        got = LabelSmoothingCrossentropy(0.2, ignore_class=255)(y.astype(dtype), z)
        assert float(got) == pytest.approx(expected, rel=1e-5)
    negative = LabelSmoothingCrossentropy(0.2, ignore_class=-1)(np.where(y == 255, -1, y), z)
    assert float(negative) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_ignored_samples_has_no_loss():
    assert float(LabelSmoothingCrossentropy(ignore_class=-1)(-np.ones(3, "int32"), drawn(3, 4))) == 0.0


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("one_hot", [False, True])
def test_gradient_is_that_of_torch(jit_compile, one_hot):
    import tensorflow as tf

    torch = pytest.importorskip("torch", reason="torch is the oracle")
    z, y = drawn(9, 5), labels(5, 9)
    theirs = torch.tensor(z, requires_grad=True)
    torch.nn.CrossEntropyLoss(label_smoothing=0.2)(theirs, torch.tensor(y)).backward()
    loss = LabelSmoothingCrossentropy(0.2)
    target = np.eye(5, dtype="float32")[y] if one_hot else y

    def gradient(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(target, z)
        return tape.gradient(value, z)

    run = gradient if jit_compile is None else tf.function(gradient, jit_compile=jit_compile)
    np.testing.assert_allclose(run(tf.constant(z)).numpy(), theirs.grad.numpy(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("shape", "axis"), [((4, 3, 5), -1), ((4, 5, 3), 1), ((2, 5, 3, 3), 1), ((2, 3, 5, 3), -2)])
def test_the_class_axis_may_be_any(shape, axis):
    z = drawn(*shape)
    y = labels(5, *np.delete(shape, axis))
    expected = by_numpy(np.moveaxis(z, axis, -1), y, 0.1)
    loss = LabelSmoothingCrossentropy(axis=axis, reduction=None)
    np.testing.assert_allclose(ops.convert_to_numpy(loss(y, z)), expected, rtol=1e-5)
    with_axis = np.expand_dims(y, axis)
    np.testing.assert_allclose(ops.convert_to_numpy(loss(with_axis, z)), expected, rtol=1e-5)
    one_hot = np.moveaxis(np.eye(5, dtype="float32")[y], -1, axis)
    np.testing.assert_allclose(ops.convert_to_numpy(loss(one_hot, z)), expected, rtol=1e-5)


@pytest.mark.slow
def test_the_logit_of_the_label_ends_where_theory_says():
    """Gradient descent on one sample: the gap is ln(((1 - a) + a / K) / (a / K))."""
    alpha, classes = 0.2, 4
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(classes, use_bias=False)])
    model.compile(keras.optimizers.SGD(1.0), LabelSmoothingCrossentropy(alpha), jit_compile=False)
    model.fit(np.ones((200, 1)), np.full(200, 2), batch_size=1, epochs=2, verbose=0)
    z = ops.convert_to_numpy(model(np.ones((1, 1))))[0]
    gap = np.log(((1 - alpha) + alpha / classes) / (alpha / classes))
    np.testing.assert_allclose(z[2] - np.delete(z, 2), gap, rtol=1e-3)


def test_prior_noise_is_the_frequency_of_the_classes():
    z, y, prior = drawn(9, 3), labels(3, 9), [0.7, 0.2, 0.1]
    loss = LabelSmoothingCrossentropy(0.3, noise="prior", class_prior=prior, reduction=None)
    np.testing.assert_allclose(ops.convert_to_numpy(loss(y, z)), by_numpy(z, y, 0.3, prior), rtol=1e-5)


def test_random_noise_has_the_uniform_loss_as_its_mean():
    """The noise of n equal samples: its mean weight is 1 / K within 5 standard errors of Beta(1, K - 1)."""
    classes, n, alpha = 4, 4000, 0.5
    z = np.tile(np.array([[3.0, -1.0, 0.5, 0.0]], "float32"), (n, 1))
    y = np.zeros(n, "int32")
    losses = ops.convert_to_numpy(LabelSmoothingCrossentropy(alpha, noise="random", seed=1, reduction=None)(y, z))
    mean = by_numpy(z[:1], y[:1], alpha)[0]
    log_p = z[0] - np.log(np.exp(z[0]).sum())
    # Var(sum_k xi_k l_k) for the uniform distribution on the simplex is Var(l) / (K + 1).
    deviation = alpha * np.sqrt(log_p.var() / (classes + 1))
    assert losses.std() == pytest.approx(deviation, rel=0.1)
    assert abs(losses.mean() - mean) < 5 * deviation / np.sqrt(n)


def test_random_noise_depends_on_the_predictions_and_the_seed():
    z, y = drawn(9, 5), labels(5, 9)

    def value(z, seed):
        return float(LabelSmoothingCrossentropy(0.5, noise="random", seed=seed)(y, z))

    assert value(z, 1) == value(z, 1)
    assert value(z, 1) != value(z, 2)
    ratio = value(z, 1) / by_numpy(z, y, 0.5).mean()
    other = z + np.float32(0.25)  # The same probabilities.
    assert value(other, 1) / by_numpy(other, y, 0.5).mean() != pytest.approx(ratio, rel=1e-4)


def test_probabilities_are_taken_as_such():
    z, y = drawn(9, 5), labels(5, 9)
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    got = LabelSmoothingCrossentropy(0.1, from_logits=False)(y, p)
    assert float(got) == pytest.approx(by_numpy(z, y, 0.1).mean(), rel=1e-5)


def test_without_smoothing_it_is_keras_crossentropy():
    z, y = drawn(9, 5), labels(5, 9)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, z)
    assert float(LabelSmoothingCrossentropy(0.0)(y, z)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_predictions_are_compared_in_float32(dtype):
    z, y = ops.cast(10 * drawn(9, 5), dtype), labels(5, 9)
    wide = ops.convert_to_numpy(ops.cast(z, "float32"))
    assert float(LabelSmoothingCrossentropy(0.1)(y, z)) == pytest.approx(by_numpy(wide, y, 0.1).mean(), rel=1e-5)


@pytest.mark.tensorflow
def test_random_noise_is_the_same_compiled():
    import tensorflow as tf

    z, y = tf.constant(drawn(9, 5)), tf.constant(labels(5, 9))
    loss = LabelSmoothingCrossentropy(0.5, noise="random", seed=1)
    expected = float(loss(y, z))
    for jit_compile in (False, True):
        got = tf.function(lambda y, z: loss(y, z), jit_compile=jit_compile)(y, z)
        assert float(got) == pytest.approx(expected, rel=1e-5)


def test_sample_weights_are_keras_ones():
    z, y, weight = drawn(9, 5), labels(5, 9), np.arange(9, dtype="float32")
    got = LabelSmoothingCrossentropy(0.1)(y, z, sample_weight=weight)
    assert float(got) == pytest.approx((weight * by_numpy(z, y, 0.1)).mean(), rel=1e-5)


def test_extreme_logits_are_finite():
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], "float32")
    y = np.array([1, 0])
    got = LabelSmoothingCrossentropy(0.1, reduction=None)(y, z)
    np.testing.assert_allclose(ops.convert_to_numpy(got), by_numpy(z, y, 0.1), rtol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("wrong", [5, -1, 300, -0.5, 1.7])
def test_an_id_outside_the_classes_raises(wrong):
    import tensorflow as tf

    z, y = drawn(3, 5), np.array([0, wrong, 1])
    loss = LabelSmoothingCrossentropy()
    message = re.escape("LabelSmoothingCrossentropy: expected class ids in [0, 5); got")
    for run in (loss, tf.function(loss)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            run(tf.constant(y), tf.constant(z))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    model.compile("sgd", loss, jit_compile=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        model.fit(drawn(3, 4), y, verbose=0)


def _value_and_gradient(loss, y, z):
    """Return the losses and the gradient of their sum, on JAX and torch."""
    if BACKEND == "jax":
        import jax

        return loss(y, z), np.asarray(jax.grad(lambda z: loss(y, z).sum())(z))
    import torch

    z = torch.tensor(z, requires_grad=True)
    value = loss(y, z)
    value.sum().backward()
    return value.detach().numpy(), z.grad.numpy()


@pytest.mark.parametrize("wrong", [5, -1, 300])
def test_an_id_outside_the_classes_is_no_number_where_nothing_can_raise(wrong):
    z, y = drawn(3, 5), np.array([0, wrong, 1], "int32")
    loss = LabelSmoothingCrossentropy(reduction=None)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=True)
        def both(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss(y, z)
            return value, tape.gradient(value, z)

        value, gradient = (t.numpy() for t in both(tf.constant(z)))
        assert np.isnan(gradient[1]).all()
        assert np.isfinite(gradient[[0, 2]]).all()
    else:
        value, gradient = _value_and_gradient(loss, y, z)
        assert np.isnan(gradient[1]).all()
        assert np.isfinite(gradient[[0, 2]]).all()
    assert np.isnan(value).tolist() == [False, True, False]


@pytest.mark.tensorflow
def test_no_one_hot_matrix_is_made():
    """No operation makes a matrix out of class ids: nothing wider than a column depends on them."""
    import tensorflow as tf

    loss = LabelSmoothingCrossentropy()
    graph = tf.function(loss).get_concrete_function(tf.TensorSpec((7,), tf.int32), tf.TensorSpec((7, 11))).graph
    fresh, wide = {graph.inputs[0].name}, []
    assert not [op for op in graph.get_operations() if op.type == "OneHot"]
    for op in graph.get_operations():
        # IdentityN marks the gradient of the whole, and passes the logits through.
        if op.type != "IdentityN" and any(tensor.name in fresh for tensor in op.inputs):
            fresh |= {tensor.name for tensor in op.outputs}
            wide += [op.name for tensor in op.outputs if tensor.shape.rank == 2 and tensor.shape[1] == 11]
    assert wide == []


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64,), (64, 1)])
def test_it_trains_a_model_that_is_saved_with_it(tmp_path, shape):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.05), LabelSmoothingCrossentropy(0.05), metrics=["accuracy"])
    x = drawn(64, 4)
    y = x[:, :3].argmax(axis=1).reshape(shape)
    history = model.fit(x, y, epochs=30, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 1.0}, ValueError, "expected 0 <= alpha < 1; got alpha=1.0."),
        ({"alpha": "a"}, TypeError, "expected a number for alpha; got alpha='a'."),
        (
            {"noise": "gauss"},
            ValueError,
            "expected noise to be one of 'uniform', 'prior', 'random'; got noise=",
        ),
        ({"noise": "prior"}, ValueError, 'expected a class_prior for noise="prior"; got class_prior=None.'),
        ({"class_prior": [1.0]}, ValueError, "expected class_prior with noise=\"prior\" alone; got noise='uniform'"),
        (
            {"noise": "prior", "class_prior": [0.5, 0.6]},
            ValueError,
            "expected class_prior of entries >= 0",
        ),
        (
            {"noise": "prior", "class_prior": [-0.5, 1.5]},
            ValueError,
            "expected class_prior of entries >= 0",
        ),
        ({"seed": 0.1}, TypeError, "expected an integer for seed; got seed=0.1."),
        ({"ignore_class": 0.5}, TypeError, "expected an integer for ignore_class; got ignore_class=0.5."),
        ({"axis": None}, TypeError, "expected an integer for axis; got axis=None."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"LabelSmoothingCrossentropy: {message}")):
        LabelSmoothingCrossentropy(**arguments)


@pytest.mark.parametrize(
    ("y", "z", "arguments", "message"),
    [
        ((4, 3), (4, 5), {}, "expected labels that have the shape of the predictions or lack just the class"),
        (
            (4, 2, 5),
            (4, 5),
            {},
            "expected labels that have the shape of the predictions or lack just the class",
        ),
        ((4,), (4, 1), {}, "expected 2 classes or more; got num_classes=1. One output has nothing to smooth."),
        ((4, 5), (4, 5), {"ignore_class": 0}, "expected class ids where ignore_class is given; got ignore_class=0"),
        ((4,), (4, 5), {"axis": 2}, "expected predictions that have the class axis; got axis=2"),
        (
            (4,),
            (4, 5),
            {"noise": "prior", "class_prior": [0.5, 0.5]},
            "expected an entry of class_prior for each class;",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, z, arguments, message):
    with pytest.raises(ValueError, match=re.escape(f"LabelSmoothingCrossentropy: {message}")):
        LabelSmoothingCrossentropy(**arguments)(np.zeros(y, "int32"), drawn(*z))
