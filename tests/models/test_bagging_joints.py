"""Bagging where its members meet the rest of Keras: layers with a state of their own, files, several outputs, data."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.models import Bagging, KerasClassifier, KerasRegressor, SharpnessAware, TiedModel
from keras_kicks.regularizers import ElasticNet, Lp, ParameterTying, Ridge

pytestmark = pytest.mark.tensorflow
X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = 2 * X[:, :1] + 0.5


def linear(**arguments):
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, **arguments)])


def functional():
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(1)(x))


def nested():
    return keras.Sequential([keras.Input((3,)), functional()])


def trained(build, x=X, y=Y, loss="mse", epochs=1, stacked=None, rate=0.05, **arguments):
    bagging = Bagging(build, 2, stacked=stacked, seed=1, **arguments)
    bagging.compile(keras.optimizers.SGD(rate), loss, jit_compile=False)
    bagging.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return bagging


@pytest.mark.parametrize("stacked", [None, False])
def test_members_normalize_by_what_they_were_adapted_to(stacked, tmp_path):
    """As plain members do on data that are normalized before; also in files, and as plain models."""
    x = 5 * X + 3

    def build():
        normalization = layers.Normalization()
        normalization.adapt(x)
        return keras.Sequential([keras.Input((3,)), normalization, layers.Dense(1, kernel_initializer="ones")])

    bagging = trained(build, x, epochs=3, stacked=stacked)
    plain = trained(lambda: linear(kernel_initializer="ones"), (x - x.mean(0)) / x.std(0), epochs=3, stacked=stacked)
    expected = plain.predict((x - x.mean(0)) / x.std(0), verbose=0)
    bagging.save(tmp_path / "bagging.keras")
    loaded = keras.saving.load_model(tmp_path / "bagging.keras")
    for model in (bagging, loaded, bagging.to_model(), loaded.to_model()):
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)
    for member, alone in zip(plain.predict_members((x - x.mean(0)) / x.std(0)), loaded.members(), strict=True):
        np.testing.assert_allclose(alone.predict(x, verbose=0), member, rtol=1e-4, atol=1e-5)


def test_tables_that_no_file_would_hold_are_refused():
    def build():
        lookup = layers.IntegerLookup()
        lookup.adapt(np.array([3, 5, 7]))
        return keras.Sequential([keras.Input((1,), dtype="int64"), lookup, layers.Embedding(5, 2), layers.Flatten()])

    message = "Bagging: expected no layers that were adapted to a vocabulary or to bins; got layers=.'integer_lookup"
    with pytest.raises(ValueError, match=message):
        Bagging(build, 2)


@pytest.mark.parametrize("stacked", [None, False])
@pytest.mark.parametrize("build", [functional, nested])
def test_functional_members_are_loaded_and_cloned(build, stacked, tmp_path):
    bagging = trained(build, stacked=stacked)
    bagging.save(tmp_path / "bagging.keras")
    loaded = keras.saving.load_model(tmp_path / "bagging.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), bagging.predict(X, verbose=0))
    assert keras.models.clone_model(loaded).n == 2


PENALTIES = {
    "Ridge": lambda: Ridge(0.1),
    "squared Ridge": lambda: Ridge(0.1, squared=True),
    "Lp": lambda: Lp(2, 0.1),
    "ElasticNet": lambda: ElasticNet(0.1),
    "ParameterTying": lambda: ParameterTying(np.ones((3, 1)), 0.1),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_of_this_package_are_those_of_members_side_by_side(name):
    def build():
        return linear(kernel_regularizer=PENALTIES[name](), kernel_initializer="ones")

    one, other = trained(build, bootstrap=0.5), Bagging(build, 2, bootstrap=0.5, seed=1)
    assert one.member_weights._vectorized
    other.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=True)
    other.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    np.testing.assert_allclose(one.predict_members(X), other.predict_members(X), rtol=1e-4, atol=1e-5)


def test_what_has_no_rule_for_a_vectorized_map_runs_side_by_side():
    import tensorflow as tf

    def own(y, z):
        return 2 * tf.nn.l2_loss(y - z)

    def squares(y, z):
        return keras.ops.sum(keras.ops.square(y - z))

    def build():
        return linear(kernel_initializer="ones")

    one, other = trained(build, loss=own, rate=1e-4), trained(build, loss=squares, rate=1e-4)
    assert not one.member_weights._vectorized
    assert other.member_weights._vectorized
    np.testing.assert_allclose(one.predict_members(X), other.predict_members(X), rtol=1e-5, atol=1e-6)


def test_predictions_of_members_see_inputs_as_they_are_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_float16")

    def build():
        wide = layers.Normalization(mean=[0.0] * 3, variance=[1e10] * 3, dtype="float32")
        return keras.Sequential([keras.Input((3,)), wide, layers.Dense(1)])

    bagging, x = trained(build, X * 1e5), X * 1e5  # What float16 has no numbers for.
    assert np.isfinite(bagging.predict_members(x)).all()
    np.testing.assert_allclose(bagging.predict_members(x).mean(axis=0), bagging.predict(x, verbose=0), atol=2e-3)
    seen = (bagging.bootstrap_counts() > 0).all(axis=1)
    np.testing.assert_array_equal(np.isnan(bagging.oob_predict(x))[:, 0], seen)


def two_outputs(names=("a", "b"), kind=dict):
    x = keras.Input((3,))
    outputs = {name: layers.Dense(1, name=name)(x) for name in names}
    return keras.Model(x, outputs if kind is dict else list(outputs.values()))


@pytest.mark.parametrize("arguments", [{"jit_compile": False}, {"run_eagerly": True}])
@pytest.mark.parametrize("stacked", [None, False])
def test_each_output_has_its_loss(arguments, stacked):
    bagging = Bagging(two_outputs, 2, stacked=stacked, seed=1)
    alone = bagging.members()
    bagging.compile(keras.optimizers.SGD(0.0), "mse", **arguments)
    logs = bagging.fit(X, {"a": Y, "b": 3 * Y}, batch_size=16, epochs=2, verbose=0).history
    errors = {
        name: [np.mean(count * np.square(model.predict(X, verbose=0)[name] - factor * Y)[:, 0])
               for model, count in zip(alone, bagging.bootstrap_counts().T, strict=True)]
        for name, factor in (("a", 1), ("b", 3))
    }  # fmt: skip
    for name in ("a", "b"):
        np.testing.assert_allclose(logs[f"{name}_loss"], [np.mean(errors[name])] * 2, rtol=1e-4)
    np.testing.assert_allclose(logs["loss"], np.add(logs["a_loss"], logs["b_loss"]), rtol=1e-5)


def around(kind):
    tying = ParameterTying(two_outputs(kind=list), 0.1)
    return {
        "Bagging": lambda: Bagging(lambda: two_outputs(kind=list), 2),
        "TiedModel": lambda: TiedModel(two_outputs(kind=list), tying),
        "SharpnessAware": lambda: SharpnessAware(two_outputs(kind=list)),
    }[kind]()


@pytest.mark.parametrize("kind", ["Bagging", "TiedModel", "SharpnessAware"])
def test_losses_have_the_names_of_the_outputs(kind):
    model = around(kind)
    model.compile("sgd", {"a": "mse", "b": "mae"}, metrics={"a": ["mae"]}, jit_compile=False)
    logs = model.fit(X, {"a": Y, "b": Y}, verbose=0).history
    assert {"a_loss", "b_loss", "a_mae"} <= set(logs)


def test_replicas_know_what_is_out_of_bag(strategy):
    with strategy.scope():
        bagging = Bagging(two_outputs, 2, seed=1)
        bagging.compile("sgd", "mse", jit_compile=False)
    logs = bagging.fit(X, {"a": Y, "b": 3 * Y}, batch_size=16, verbose=0).history
    assert logs["loss"][0] == pytest.approx(logs["a_loss"][0] + logs["b_loss"][0], rel=1e-5)
    counts = bagging.bootstrap_counts()
    assert counts.shape == (64, 2)
    np.testing.assert_array_equal(np.isnan(bagging.oob_predict(X)["a"])[:, 0], (counts > 0).all(axis=1))


def batches():
    return ((X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[16 * i : 16 * i + 16], Y[16 * i : 16 * i + 16]


@pytest.mark.parametrize("make", [batches, Batches])
@pytest.mark.parametrize("bootstrap", [True, False])
def test_members_without_an_input_are_built_by_any_data(make, bootstrap):
    def later():
        return keras.Sequential([layers.Dense(1, kernel_initializer="ones")])

    def at_once():
        return linear(kernel_initializer="ones")

    found = []
    for build in (later, at_once):
        bagging = Bagging(build, 2, bootstrap=bootstrap, seed=1)
        bagging.compile("sgd", "mse", jit_compile=False)
        bagging.fit(make(), steps_per_epoch=4, shuffle=False, verbose=0)
        found.append(bagging.predict(X, verbose=0))
    np.testing.assert_array_equal(*found)
    bagging = Bagging(later, 2, bootstrap=bootstrap, seed=1)
    bagging.compile("sgd", "mse", jit_compile=False)
    assert bagging.train_on_batch(X, Y) > 0


def test_numbers_of_64_bits_keep_them():
    bias = keras.initializers.Constant(1.6e9)
    keras.config.set_dtype_policy("float64")
    bagging = Bagging(lambda: linear(bias_initializer=bias), 2)
    found = bagging.predict(X.astype("float64"), verbose=0)
    expected = np.mean([X @ model.get_weights()[0] for model in bagging.members()], axis=0)
    np.testing.assert_allclose(found - 1.6e9, expected, atol=1e-5)


def test_a_regressor_of_scikit_learn_takes_targets_of_64_bits(monkeypatch):
    monkeypatch.setattr(keras.config, "floatx", lambda: "float64")
    seen = []

    class Spy(keras.Model):
        def fit(self, x, y, **arguments):
            seen.append(y)
            return keras.callbacks.History()

    KerasRegressor(lambda shape, outputs: Spy()).fit(X, 1.6e9 + Y[:, 0].astype("float64"))
    np.testing.assert_array_equal(seen[0][:, 0], 1.6e9 + Y[:, 0].astype("float64"))


def test_a_copy_keeps_initializers_that_differ():
    seeds = itertools.count()
    bagging = Bagging(lambda: linear(kernel_initializer=keras.initializers.GlorotUniform(next(seeds))), 3)
    copy = keras.models.clone_model(bagging)
    np.testing.assert_array_equal(copy.predict_members(X), bagging.predict_members(X))
    assert len({float(value) for value in copy.predict_members(X)[:, 0, 0]}) == 3


def test_an_optimizer_that_cannot_be_copied_is_named():
    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.01

    bagging = Bagging(linear, 2)
    bagging.compile(keras.optimizers.Adam(Schedule()), "mse", jit_compile=False)
    message = (
        "Bagging: expected an optimizer with a config, by which copies of it are tried; got optimizer='Adam'. Give"
    )
    with pytest.raises(ValueError, match=message):
        bagging.fit(X, Y, verbose=0)


def test_a_seed_may_be_negative():
    one, other = (Bagging(linear, 2, seed=seed) for seed in (-1, -2))
    for bagging in (one, other):
        bagging.compile("sgd", "mse", jit_compile=False)
        bagging.fit(X, Y, verbose=0)
        bagging.train_on_batch(X, Y)
    assert (one.bootstrap_counts() != other.bootstrap_counts()).any()


def test_a_classifier_reads_logits_where_the_loss_says_so():
    def build(shape, classes):
        bagging = Bagging(linear, 2, seed=0)
        bagging.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
        return bagging

    classifier = KerasClassifier(build, random_state=0).fit(X, X[:, 0] > 0)
    logits = classifier.model_.predict(X, verbose=0)[:, 0]
    assert ((logits > 0) & (logits < 0.5)).any()
    np.testing.assert_array_equal(classifier.predict(X), logits > 0)
    np.testing.assert_allclose(classifier.predict_proba(X)[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-5)
