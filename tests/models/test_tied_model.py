"""Training with tied parameters, against closed forms and steps by hand; files and copies go on with it."""

import json
import zipfile

import keras
import numpy as np
import pytest
import subjects
from keras import layers

from keras_kicks.models import SharpnessAware, TiedModel
from keras_kicks.regularizers import ParameterTying

SAMPLES, FEATURES = 24, 4


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def task(seed, coefficients=(2.0, -1.0, 0.5, 1.0)):
    x = numbers(SAMPLES, FEATURES, seed=seed)
    w = np.array(coefficients) + 0.3 * numbers(FEATURES, seed=seed + 50)
    return x, (x @ w + 0.2 * numbers(SAMPLES, seed=seed + 90))[:, None].astype("float32")


def linear(seed=0, name=None):
    model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(1, use_bias=False, name="w")], name=name)
    model.set_weights([numbers(FEATURES, 1, seed=seed)])
    return model


def fitted(tied, x, y, steps=600, rate=0.1, losses="mse"):
    """Train on all samples at once, many steps in a call."""

    def repeated(data):
        return keras.tree.map_structure(lambda a: np.tile(a, (steps, 1)), data)

    if subjects.BACKEND == "tensorflow":
        tied.compile(keras.optimizers.SGD(rate), losses, steps_per_execution=100, jit_compile=False)
    else:
        tied.compile(keras.optimizers.SGD(rate), losses, jit_compile=False)
    tied.fit(repeated(x), repeated(y), batch_size=SAMPLES, shuffle=False, verbose=0)


@pytest.mark.parametrize("weight", [0.05, 1.0])
def test_l2_sp_is_the_closed_form(weight):
    """w = (X'X + n lambda I)^-1 (X'y + n lambda w0)"""
    (x, y), model, start = task(1), linear(2), numbers(FEATURES, 1, seed=3)
    tying = ParameterTying(linear(3), weight, squared=True)
    fitted(TiedModel(model, tying), x, y)
    x, y = x.astype("float64"), y.astype("float64")
    identity = SAMPLES * weight * np.eye(FEATURES)
    expected = np.linalg.solve(x.T @ x + identity, x.T @ y + identity @ start)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-3, atol=1e-4)


def joint(a, b, weight):
    """The minimum of both mean squares and the squared distance, as one system of equations."""
    (xa, ya), (xb, yb) = ((each.astype("float64") for each in pair) for pair in (a, b))
    tie = SAMPLES * weight * np.eye(FEATURES)
    system = np.block([[xa.T @ xa + tie, -tie], [-tie, xb.T @ xb + tie]])
    return np.split(np.linalg.solve(system, np.concatenate([xa.T @ ya, xb.T @ yb])), 2)


@pytest.mark.parametrize("weight", [0.0, 0.3, 30.0])
def test_two_regressions_are_the_joint_problem(weight):
    a, b = task(1), task(2)
    models = [linear(3), linear(4)]
    tied = TiedModel(models[0], ParameterTying(models[1], weight, squared=True, mode="two-way"))
    fitted(tied, [a[0], b[0]], [a[1], b[1]], rate=0.1 if weight < 1 else 0.01, losses=["mse", "mse"])
    expected = joint(a, b, weight)
    for model, w in zip(models, expected, strict=True):
        np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-2, atol=2e-3)
    apart = np.linalg.norm(models[0].get_weights()[0] - models[1].get_weights()[0])
    alone = [np.linalg.lstsq(x, y, rcond=None)[0] for x, y in (a, b)]
    assert apart < 0.02 * np.linalg.norm(alone[0] - alone[1]) if weight == 30.0 else apart > 0.1
    if weight == 0:
        for model, w in zip(models, alone, strict=True):
            np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-3, atol=1e-4)


def stepped(w, other, a, b, weights, weight, rate, two_way=True):
    """One step of both by hand, with the notes' norm."""
    difference = w - other
    pull = weight * difference / np.linalg.norm(difference)
    results = []
    for v, (x, y), sample_weight, sign in ((w, a, weights[0], 1), (other, b, weights[1], -1)):
        slope = 2 * x.T @ (sample_weight[:, None] * (x @ v - y)) / len(x)
        results.append(v - rate * (slope + sign * pull))
    return results


SETTINGS = {"graph": {"jit_compile": False}, "jit": {"jit_compile": True}, "eager": {"run_eagerly": True}}


@pytest.mark.tensorflow
@pytest.mark.parametrize("setting", [*SETTINGS, "replicas", "scaled replicas"])
def test_a_step_of_both_with_sample_weights(setting, strategy):
    a, b = task(1), task(2)
    weights = [np.abs(numbers(SAMPLES, seed=seed)) for seed in (7, 8)]
    before = [numbers(FEATURES, 1, seed=seed).astype("float64") for seed in (3, 4)]
    expected = stepped(*before, a, b, weights, 0.7, 0.1)

    def make():
        models = [linear(3), linear(4)]
        tied = TiedModel(models[0], ParameterTying(models[1], 0.7, mode="two-way"))
        optimizer = keras.optimizers.SGD(0.1)
        if "scaled" in setting:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 8.0)
        tied.compile(optimizer, ["mse", "mse"], **SETTINGS.get(setting, {"jit_compile": False}))
        return models, tied

    if "replicas" in setting:
        with strategy.scope():
            models, tied = make()
    else:
        models, tied = make()
    history = tied.fit(
        [a[0], b[0]], [a[1], b[1]], sample_weight=weights, batch_size=SAMPLES, shuffle=False, verbose=0
    ).history
    for model, w in zip(models, expected, strict=True):
        np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-5, atol=1e-6)
    mean = [np.mean(w[:, None] * (x @ v - y) ** 2) for v, (x, y), w in zip(before, (a, b), weights, strict=True)]
    whole = sum(mean) + 0.7 * np.linalg.norm(before[0] - before[1])
    assert history["loss"][0] == pytest.approx(whole, rel=1e-5)


def network(seed=0, name=None):
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(8, "tanh", name="hidden"), layers.BatchNormalization(name="norm")]
    return keras.Sequential([keras.Input((FEATURES,)), *hidden, layers.Dense(1, name="out")], name=name)


def one_way():
    return TiedModel(network(1), ParameterTying(network(2), 0.3, squared=True))


def two_ways():
    return TiedModel(network(1), ParameterTying(network(2), 0.3, mode="two-way", paths=["hidden", "out/kernel"]))


def regularized():
    """A layer that is tied to an array."""
    tying = ParameterTying(numbers(FEATURES, 8), 0.3, p=3)
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(8, "tanh", kernel_regularizer=tying), layers.Dense(1)]
    )


def joint_model():
    """Two layers of one functional model, of which one is tied to the other."""
    inputs = [keras.Input((FEATURES,)), keras.Input((FEATURES,))]
    first = layers.Dense(1, name="first")
    y = first(inputs[0])
    tying = ParameterTying(first, 0.3, mode="two-way")
    return keras.Model(inputs, [y, layers.Dense(1, name="second", kernel_regularizer=tying)(inputs[1])])


MODELS = {f.__name__: f for f in (one_way, two_ways, regularized, joint_model)}
PAIRS = ("two_ways", "joint_model")


def compiled(name):
    keras.utils.set_random_seed(5)
    model = MODELS[name]()
    model.compile(keras.optimizers.Adam(0.01), ["mse", "mse"] if name in PAIRS else "mse", jit_compile=False)
    return model


def trained(model, name, epochs=2):
    (x, y), (other_x, other_y) = task(1), task(2)
    data = ([x, other_x], [y, other_y]) if name in PAIRS else (x, y)
    history = model.fit(*data, batch_size=8, epochs=epochs, shuffle=False, verbose=0).history
    return [*model.get_weights(), np.array(history["loss"])]


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_trains_on_as_if_nothing_had_happened(name, tmp_path):
    model = compiled(name)
    trained(model, name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    for a, b in zip(trained(model, name), trained(loaded, name), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", MODELS)
def test_no_weights_are_in_the_config(name, tmp_path):
    compiled(name).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))

    def longest(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        numbers = [item for item in inner if isinstance(item, float)] if isinstance(value, list) else []
        return max([len(numbers), *map(longest, inner)])

    assert longest(config) == 0


def test_a_file_in_another_process_has_the_start(tmp_path):
    """Where no original holds it: the mark of another one is unknown here."""
    model = compiled("regularized")
    trained(model, "regularized")
    config = json.dumps(model.get_config())
    mark = model.layers[0].kernel_regularizer.get_config()["other"]["mark"]
    unknown = keras.Sequential.from_config(json.loads(config.replace(mark, "0" * 64)))
    assert np.isnan(subjects.array(sum(unknown.losses)))
    unknown.set_weights(model.get_weights())
    assert subjects.array(sum(unknown.losses)) == subjects.array(sum(model.losses))


@pytest.mark.parametrize("name", ["one_way", "two_ways", "regularized"])
def test_clones_are_tied_too(name):
    model = compiled(name)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    clone.compile(keras.optimizers.Adam(0.01), ["mse", "mse"] if name in PAIRS else "mse", jit_compile=False)
    before = [w.copy() for w in model.get_weights()]
    for a, b in zip(trained(model, name), trained(clone, name), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(before, clone.get_weights(), strict=True))


def test_a_clone_of_a_snapshot_has_its_values():
    model = compiled("regularized")
    clone = keras.models.clone_model(model)
    kernel = subjects.array(clone.layers[0].kernel)
    expected = 0.3 * (np.abs(kernel - numbers(FEATURES, 8)) ** 3).sum() ** (1 / 3)
    assert subjects.array(sum(clone.losses)) == pytest.approx(expected, rel=1e-5)


def test_a_clone_without_its_other_says_so_and_takes_one():
    model = compiled("joint_model")
    clone = keras.models.clone_model(model)
    with pytest.raises(ValueError, match=r"ParameterTying: expected the other .* got other='first'. Set `other`"):
        _ = clone.losses
    clone.get_layer("second").kernel_regularizer.other = clone.get_layer("first")
    clone.set_weights(model.get_weights())
    assert subjects.array(sum(clone.losses)) == subjects.array(sum(model.losses))


def test_the_model_inside_is_a_plain_one(tmp_path):
    tied = compiled("one_way")
    trained(tied, "one_way")
    tied.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(network().weights)
    x = task(1)[0]
    np.testing.assert_allclose(loaded.predict(x, verbose=0), tied.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_the_start_is_neither_trained_nor_moved():
    tied = compiled("one_way")
    start = [w.copy() for w in tied.tying.get_weights()]
    trained(tied, "one_way")
    for a, b in zip(start, tied.tying.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(tied.trainable_weights) == len(tied.model.trainable_weights)


def test_statistics_of_normalization_are_not_tied():
    tied = compiled("one_way")
    names = [a.name for a, _ in tied.tying.pairs(tied.model)]
    assert names == ["kernel", "bias", "gamma", "beta", "kernel", "bias"]


@pytest.mark.tensorflow
def test_a_model_around_it_has_the_penalty_too():
    (x, y), losses = task(1), []
    for around in (lambda model: model, lambda model: SharpnessAware(model, 1e-6)):
        tied = around(one_way())
        tied.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
        losses.append(tied.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.tensorflow
def test_half_precision_computes_the_penalty_in_single():
    keras.config.set_dtype_policy("mixed_float16")
    model, other = network(1), network(2)
    # A square of 1e-8 is 0 in half precision.
    other.set_weights([w + np.float32(1e-4) for w in model.get_weights()])
    tied = TiedModel(model, ParameterTying(other, 1e6, squared=True))
    tied.compile("sgd", "mse", jit_compile=False)
    count = sum(w.size for w in model.get_weights()) - 16
    x = task(1)[0]
    y = tied.predict(x, verbose=0)
    assert tied.evaluate(x, y, verbose=0) == pytest.approx(count * 1e-2, rel=0.02)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: TiedModel(layers.Dense(1), ParameterTying(numbers(2))), TypeError, "a keras model"),
        (lambda: TiedModel(linear(), 0.1), TypeError, "a ParameterTying; got tying=0.1"),
        (lambda: TiedModel(linear(), ParameterTying(network())), ValueError, r"lacking=\['w/kernel'\]"),
        (lambda: TiedModel(linear(), ParameterTying(linear(), mode="live")), ValueError, r"trainable=\['.*w/kernel'\]"),
        (
            lambda: TiedModel(linear(), ParameterTying(linear(), mode="two-way"))(numbers(2, FEATURES)),
            ValueError,
            "a pair of inputs",
        ),
    ],
)
def test_bad_input(make, error, text):
    with pytest.raises(error, match=r"(TiedModel|ParameterTying): expected .*" + text):
        make()


def test_a_model_cannot_be_tied_to_itself():
    model = linear()
    with pytest.raises(ValueError, match=r"TiedModel: expected another model to tie to"):
        TiedModel(model, ParameterTying(model, mode="two-way"))
