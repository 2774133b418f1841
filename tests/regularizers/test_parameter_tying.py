"""The distance between parameters: values and gradients against torch, for one weight and for whole models."""

import math

import keras
import numpy as np
import pytest
import subjects
from cases import Case
from keras import layers, ops

from keras_kicks.regularizers import ParameterTying

ORDERS = [0.5, 1, 1.5, 2, 3, math.inf]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def network(prefix="", width=3):
    keras.utils.set_random_seed(len(prefix))
    hidden = [layers.Dense(width, "tanh", name=f"{prefix}hidden"), layers.BatchNormalization(name=f"{prefix}norm")]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(2, bias_initializer="normal", name="out")])


def value_and_gradients(penalty, variables):
    """Return the penalty and its gradients by variables."""

    class Holder:
        trainable_variables = variables

        def __call__(self):
            return penalty()

    case = Case(lambda dtype: None, lambda: (), "function", None)
    value, gradients, _ = subjects.value_and_gradients(case, Holder(), [], False)
    cotangent = np.random.default_rng(3).normal(size=())
    return subjects.array(value) / cotangent, [subjects.array(g) / cotangent for g in gradients]


def torchs(pairs, p, squared, per_variable):
    """Return value and gradients by both sides, of the definition."""
    torch = pytest.importorskip("torch")
    sides = [
        [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in side] for side in zip(*pairs, strict=True)
    ]
    differences = [(a - b).ravel() for a, b in zip(*sides, strict=True)]
    groups = differences if per_variable else [torch.cat(differences)]
    power = 2 if squared else 1
    value = sum(torch.linalg.vector_norm(group, p) ** power for group in groups)
    value.backward()
    return value.item(), *[[x.grad.numpy() for x in side] for side in sides]


@pytest.mark.parametrize("per_variable", [False, True])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("p", ORDERS)
def test_value_and_gradients_are_those_of_the_definition(p, squared, per_variable):
    model, other = network(), network("other_")
    own, others = model.trainable_weights, other.trainable_weights
    pairs = [(subjects.array(a), subjects.array(b)) for a, b in zip(own, others, strict=True)]
    expected, slopes, slopes_of_other = torchs(pairs, p, squared, per_variable)
    for mode in ("snapshot", "two-way"):
        tying = ParameterTying(other, 0.3, p, squared, mode, per_variable=per_variable)
        variables = [*own, *others] if mode == "two-way" else own
        value, got = value_and_gradients(lambda tying=tying: tying.penalty(model), variables)
        assert value == pytest.approx(0.3 * expected, rel=1e-5)
        wanted = [*slopes, *slopes_of_other] if mode == "two-way" else slopes
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, 0.3 * b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("p", ORDERS)
def test_gradients_are_finite_and_0_at_the_start(p, squared):
    model = network()
    tying = ParameterTying(model, 0.3, p, squared)
    value, got = value_and_gradients(lambda: tying.penalty(model), model.trainable_weights)
    assert value == 0
    for g in got:
        np.testing.assert_array_equal(g, 0.0)


@pytest.mark.parametrize("other", ["array", "variable", "layer", "path"])
def test_one_weight_is_tied_to_what_another_was(other):
    layer = layers.Dense(3, bias_initializer="normal")
    layer.build((None, 4))
    kernel, bias = layer.get_weights()
    given = {"array": kernel, "variable": layer.kernel, "layer": layer, "path": layer}[other]
    tying = ParameterTying(given, 0.5, paths="bias" if other == "path" else None)
    expected, now = (bias, numbers(3)) if other == "path" else (kernel, numbers(4, 3))
    layer.set_weights([np.zeros_like(kernel), np.zeros_like(bias)])
    got = subjects.array(tying(ops.convert_to_tensor(now)))
    assert got == pytest.approx(0.5 * np.linalg.norm(now - expected), rel=1e-6)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_start_may_be_of_another_width(p):
    start = np.random.default_rng(0).normal(size=(4, 3))
    assert start.dtype == "float64"
    w = numbers(4, 3, seed=1)
    penalty = ParameterTying(start, 0.5, p)(ops.convert_to_tensor(w))
    assert keras.backend.standardize_dtype(penalty.dtype) == "float32"
    np.testing.assert_allclose(float(penalty), 0.5 * (np.abs(w - start) ** p).sum() ** (1 / p), rtol=1e-5)
    wide = ParameterTying(start.astype("float32"), 0.5, p)(ops.convert_to_tensor(w.astype("float64")))
    # Keras promotes to float64 on TensorFlow alone.
    expected = "float64" if subjects.BACKEND == "tensorflow" else "float32"
    assert keras.backend.standardize_dtype(wide.dtype) == expected


def test_a_model_is_tied_to_numbers_of_numpy():
    tying = ParameterTying(np.ones((4, 1)), 10.0, squared=True)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False, kernel_regularizer=tying)])
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    model.fit(np.zeros((8, 4), "float32"), np.zeros((8, 1)), epochs=5, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], np.ones((4, 1)), atol=1e-4)


def test_a_live_other_moves_and_gets_no_gradient():
    other, layer = layers.Dense(3, name="other"), layers.Dense(3, name="own")
    other.build((None, 4))
    layer.build((None, 4))
    tying = ParameterTying(other, 1.0, squared=True, mode="live")
    for seed in (1, 2):
        other.set_weights([numbers(4, 3, seed=seed), numbers(3)])
        value, gradients = value_and_gradients(lambda: tying(layer.kernel), [layer.kernel])
        difference = subjects.array(layer.kernel) - numbers(4, 3, seed=seed)
        assert value == pytest.approx((difference**2).sum(), rel=1e-5)
        np.testing.assert_allclose(gradients[0], 2 * difference, rtol=1e-5)
    if subjects.BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            penalty = tying(layer.kernel)
        assert tape.gradient(penalty, other.kernel.value) is None


def test_paths_choose_and_rename():
    model, start = network(), network("start_", width=3)
    chosen = ParameterTying(start, 1.0, 1, paths={"hidden": "start_hidden", "out/kernel": "out/kernel"})
    expected = sum(
        np.abs(subjects.array(a) - subjects.array(b)).sum()
        for a, b in [
            *zip(model.layers[0].weights, start.layers[0].weights, strict=True),
            (model.layers[2].kernel, start.layers[2].kernel),
        ]
    )
    assert subjects.array(chosen.penalty(model)) == pytest.approx(expected, rel=1e-5)
    listed = ParameterTying(start, 1.0, 1, paths=["out"])
    expected = sum(np.abs(a - b).sum() for a, b in zip(model.get_weights()[-2:], start.get_weights()[-2:], strict=True))
    assert subjects.array(listed.penalty(model)) == pytest.approx(expected, rel=1e-5)


def test_equal_paths_go_before_the_order():
    """Two branches that stand in another order."""

    def branches(names):
        x = keras.Input((4,))
        outputs = {name: layers.Dense(2, name=name)(x) for name in names}
        return keras.Model(x, layers.Add()([outputs["left"], outputs["right"]]))

    model, other = branches(["left", "right"]), branches(["right", "left"])
    for each in (model, other):
        for name, seed in (("left", 1), ("right", 2)):
            each.get_layer(name).set_weights([numbers(4, 2, seed=seed), numbers(2)])
    assert subjects.array(ParameterTying(other, 1.0).penalty(model)) == 0


def test_frozen_layers_are_not_tied_until_they_are_thawed():
    model, other = network(), network("other_")
    tying = ParameterTying(other, 1.0, squared=True)
    whole = subjects.array(tying.penalty(model))
    model.layers[0].trainable = False
    own, others = (each.get_weights()[:2] for each in (model, other))
    frozen = sum(((a - b) ** 2).sum() for a, b in zip(own, others, strict=True))
    assert subjects.array(tying.penalty(model)) == pytest.approx(whole - frozen, rel=1e-4)
    begun_frozen = ParameterTying(other, 1.0, squared=True)
    assert subjects.array(begun_frozen.penalty(model)) == pytest.approx(whole - frozen, rel=1e-4)
    model.layers[0].trainable = True
    for each in (tying, begun_frozen):
        assert subjects.array(each.penalty(model)) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    model, other = network(), network("other_")
    pairs = zip(model.trainable_weights, other.trainable_weights, strict=True)
    expected = math.sqrt(sum(((subjects.array(a) - subjects.array(b)) ** 2).sum() for a, b in pairs))
    value = ParameterTying(other, 1.0).penalty(model)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert subjects.array(value) == pytest.approx(expected, rel=1e-6)


def unbuilt():
    return keras.Sequential([layers.Dense(2)])


BAD = {
    "weight": (lambda: ParameterTying(numbers(2), -0.1), ValueError, r"weight >= 0; got weight=-0\.1"),
    "no weight": (lambda: ParameterTying(numbers(2), "1"), TypeError, r"a number for weight"),
    "p": (lambda: ParameterTying(numbers(2), 1.0, 0), ValueError, r"p > 0; got p=0"),
    "no p": (lambda: ParameterTying(numbers(2), 1.0, math.nan), ValueError, r"a finite p"),
    "mode": (lambda: ParameterTying(numbers(2), mode="both"), ValueError, r"mode to be one of .*'two-way'; got"),
    "kind": (lambda: ParameterTying("model.keras"), TypeError, r"a variable or an array; got other='str'"),
    "live": (lambda: ParameterTying(numbers(2), mode="live"), TypeError, r"a layer or model; got other="),
    "unbuilt": (lambda: ParameterTying(unbuilt()), ValueError, r"a layer that is built; got other="),
    "unbuilt two-way": (lambda: ParameterTying(unbuilt(), mode="two-way"), ValueError, r"a layer that is built"),
    "shape": (
        lambda: ParameterTying(numbers(2, 3))(ops.ones((3, 2))),
        ValueError,
        r"of the other's shape; got shape=\(3, 2\), other=\(2, 3\)",
    ),
    "no such weight": (
        lambda: ParameterTying(network())(ops.ones((3, 2))),
        ValueError,
        r"the path of a weight of the other; got paths='kernel', weights=\['hidden/kernel'",
    ),
    "shapes": (
        lambda: ParameterTying(network(width=5)).pairs(network()),
        ValueError,
        r"the same shapes; got unlike=\{'hidden/kernel': \(\(4, 3\), \(4, 5\)\), .*Pass `paths`",
    ),
    "names": (
        lambda: ParameterTying(network("a_", 5)).pairs(network()),
        ValueError,
        r"same paths in the other; got lacking=\['hidden/kernel', .*'norm/beta'\], weights=\['a_hidden/kernel'",
    ),
    "more in the other": (
        lambda: ParameterTying(network(), mode="two-way").pairs(
            keras.Sequential([keras.Input((3,)), layers.Dense(2, name="out")])
        ),
        ValueError,
        r"same paths in the model; got lacking=\['hidden/kernel'",
    ),
    "paths": (
        lambda: ParameterTying(network(), paths=["hiden"]).pairs(network()),
        ValueError,
        r"paths of weights or layers of the model; got path='hiden', weights=\['hidden/kernel'",
    ),
    "paths of the other": (
        lambda: ParameterTying(network(), paths={"hidden": "out/dense"}).pairs(network()),
        ValueError,
        r"paths of the other's weights; got lacking=\['out/dense/kernel', 'out/dense/bias'\]",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, error, text = BAD[name]
    with pytest.raises(error, match=r"ParameterTying: expected .*" + text):
        make()
