"""Bagging trains each member as Keras trains it alone on the same batches, with the counts as sample weights."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.models import Bagging

pytestmark = pytest.mark.tensorflow
N, FEATURES, CLASSES, MEMBERS = 40, 10, 3, 2


def mlp():
    middle = [
        layers.Dense(8, "relu", kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(0.5)),
        layers.BatchNormalization(),
    ]
    return keras.Sequential([keras.Input((FEATURES,)), *middle, layers.Dense(CLASSES)])


def random_layers():
    middle = [layers.Dense(8, "relu", activity_regularizer="l2"), layers.Dropout(0.5), layers.GaussianNoise(0.1)]
    return keras.Sequential([keras.Input((FEATURES,)), *middle, layers.Dense(CLASSES)])


def convolution():
    middle = [layers.Reshape((FEATURES, 1)), layers.Conv1D(4, 3, activation="relu"), layers.GlobalMaxPooling1D()]
    return keras.Sequential([keras.Input((FEATURES,)), *middle, layers.Dense(CLASSES)])


def branches():
    x = keras.Input((FEATURES,))
    left, right = layers.Dense(4, "tanh")(x), layers.Dense(4, "sigmoid", trainable=False)(x)
    return keras.Model(x, layers.Dense(CLASSES)(layers.Concatenate()([left, right])))


@keras.saving.register_keras_serializable(package="test_bagging")
class Subclassed(keras.Model):
    """A model of one's own, which is built when it sees data."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(CLASSES)]

    def call(self, x):
        self.add_loss(0.01 * keras.ops.mean(keras.ops.square(x)))
        for part in self.parts:
            x = part(x)
        return x

    def build(self, input_shape):
        shape = input_shape
        for part in self.parts:
            part.build(shape)
            shape = part.compute_output_shape(shape)
        self.built = True


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, N), rng.random(N).astype("float32")


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def difference(models, others):
    """Return the largest difference between the variables of models."""
    pairs = [pair for a, b in zip(models, others, strict=True) for pair in zip(a.variables, b.variables, strict=True)]
    return max(np.abs(a.numpy().astype("float64") - b.numpy().astype("float64")).max() for a, b in pairs)


def trained_alone(members, counts, weights, optimizer, jit_compile=False, eager=False, epochs=2, **options):
    """Train plain models, and return the loss of each."""
    x, y, _ = data()
    losses = []
    for model, count in zip(members, counts.T, strict=True):
        model.compile(optimizer(), loss(), jit_compile=jit_compile, run_eagerly=eager)
        history = model.fit(x, y, 16, epochs, sample_weight=weights * count, shuffle=False, verbose=0, **options)
        losses.append(history.history["loss"])
    return np.mean(losses, axis=0)


BUILDERS = (mlp, random_layers, convolution, branches, Subclassed)
SETTINGS = [
    *((build, stacked, "graph") for build in BUILDERS for stacked in (None, False)),
    (mlp, None, "eager"),
    (random_layers, False, "eager"),
    pytest.param(mlp, None, "XLA", marks=pytest.mark.slow),
    pytest.param(random_layers, None, "XLA", marks=pytest.mark.slow),
    pytest.param(mlp, False, "XLA", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("build", "stacked", "mode"), SETTINGS)
def test_each_member_learns_as_it_does_alone(build, stacked, mode):
    x, y, weights = data()
    bagging = Bagging(build, MEMBERS, stacked=stacked, seed=3)
    bagging(x[:2])
    alone = bagging.members()
    options = {"jit_compile": mode == "XLA", "run_eagerly": mode == "eager"}
    bagging.compile(keras.optimizers.Adam(0.01), loss(), **options)
    history = bagging.fit(x, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False, verbose=0)
    counts = bagging._counts_of_places(N, N)
    expected = trained_alone(
        alone, counts, weights, lambda: keras.optimizers.Adam(0.01), mode == "XLA", mode == "eager"
    )
    assert difference(alone, bagging.members()) < 1e-5
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(("optimizer", "arguments"), [("Adam", {"clipnorm": 0.1}), ("Lamb", {}), ("Adafactor", {})])
def test_side_by_side_optimizers_see_the_variables_of_one_member(optimizer, arguments):
    def make():
        return getattr(keras.optimizers, optimizer)(0.01, **arguments)

    x, y, weights = data()
    bagging = Bagging(mlp, MEMBERS, stacked=False, seed=3)
    alone = bagging.members()
    bagging.compile(make(), loss(), jit_compile=False)
    bagging.fit(x, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False, verbose=0)
    trained_alone(alone, bagging._counts_of_places(N, N), weights, make)
    assert difference(alone, bagging.members()) < 1e-5
    stacked = Bagging(mlp, MEMBERS)
    stacked.compile(make(), loss())
    message = f"Bagging: expected an optimizer that works element by element .*{optimizer}.* Pass stacked=False."
    with pytest.raises(ValueError, match=message):
        stacked.fit(x, y, verbose=0)


def test_an_optimizer_that_couples_all_variables_is_refused():
    x, y, _ = data()
    for stacked in (None, False):
        bagging = Bagging(mlp, MEMBERS, stacked=stacked)
        bagging.compile(keras.optimizers.SGD(0.01, global_clipnorm=1.0), loss())
        with pytest.raises(ValueError, match=r"Bagging: expected an optimizer that works .*global_clipnorm=1\.0"):
            bagging.fit(x, y, verbose=0)
        Bagging(mlp, 1, stacked=stacked)  # One member has nothing to be coupled with.


def test_class_weights_multiply_the_counts():
    x, y, _ = data()
    class_weight = {0: 1.0, 1: 0.2, 2: 3.0}
    bagging = Bagging(mlp, MEMBERS, seed=3)
    alone = bagging.members()
    bagging.compile(keras.optimizers.SGD(0.1), loss(), jit_compile=False)
    bagging.fit(x, y, class_weight=class_weight, batch_size=16, epochs=2, shuffle=False, verbose=0)
    weights = np.array([class_weight[label] for label in y])
    trained_alone(alone, bagging._counts_of_places(N, N), weights, lambda: keras.optimizers.SGD(0.1))
    assert difference(alone, bagging.members()) < 1e-5


def test_members_without_a_bootstrap_see_all_samples_once():
    x, y, weights = data()
    bagging = Bagging(mlp, MEMBERS, bootstrap=False)
    alone = bagging.members()
    bagging.compile(keras.optimizers.SGD(0.1), loss(), jit_compile=False)
    bagging.fit(x, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False, verbose=0)
    trained_alone(alone, np.ones((N, MEMBERS)), weights, lambda: keras.optimizers.SGD(0.1))
    assert difference(alone, bagging.members()) < 1e-5


def test_members_that_differ_run_side_by_side():
    makers = iter([mlp, branches, convolution])
    bagging = Bagging(lambda: next(makers)(), 3, seed=3)
    x, y, weights = data()
    alone = bagging.members()
    bagging.compile(keras.optimizers.Adam(0.01), loss(), jit_compile=False)
    bagging.fit(x, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False, verbose=0)
    trained_alone(alone, bagging._counts_of_places(N, N), weights, lambda: keras.optimizers.Adam(0.01))
    assert difference(alone, bagging.members()) < 1e-5


def test_mixed_precision_trains_as_alone():
    keras.config.set_dtype_policy("mixed_bfloat16")
    x, y, weights = data()
    bagging = Bagging(mlp, MEMBERS, seed=3)
    alone = bagging.members()
    bagging.compile(keras.optimizers.SGD(0.01), loss(), jit_compile=False)
    bagging.fit(x, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert bagging.predict(x, verbose=0).dtype.name == "bfloat16"
    trained_alone(alone, bagging._counts_of_places(N, N), weights, lambda: keras.optimizers.SGD(0.01))
    # Rounded in other places: 2^-8 of what six steps change.
    assert difference(alone, bagging.members()) < 2e-3


class Undeclared(keras.Model):
    """A model without `build`, which makes its weights when it sees data, and that nobody registered."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(8, "relu", activity_regularizer="l2"), layers.Dropout(0.3), layers.Dense(CLASSES)]

    def call(self, x, training=None):
        hidden, dropout, last = self.parts
        self.add_loss(0.01 * keras.ops.mean(keras.ops.square(x)))
        return last(dropout(hidden(x), training=training))


@pytest.mark.parametrize("stacked", [None, False])
def test_models_that_build_themselves_in_their_call(stacked):
    x, y, _ = data()
    bagging = Bagging(Undeclared, MEMBERS, stacked=stacked, seed=3)
    bagging.compile("sgd", loss(), jit_compile=False)
    before = bagging.fit(x, y, verbose=0).history["loss"][0]
    assert bagging.fit(x, y, epochs=20, verbose=0).history["loss"][-1] < before
    assert bagging.compute_output_shape((None, FEATURES)) == (None, CLASSES)
    for member, model in zip(bagging.predict_members(x), bagging.members(), strict=True):
        np.testing.assert_allclose(member, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts what Linux has mapped")
@pytest.mark.parametrize("stacked", [None, False])
def test_xla_compiles_a_step_once(stacked):
    """Programs are mapped into memory: their number is that of the maps."""
    x, y = np.random.default_rng(0).normal(size=(2, 64, 3)).astype("float32")

    def build():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])

    bagging = Bagging(build, 2, stacked=stacked, seed=0)
    bagging.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=True)

    def maps():
        with open("/proc/self/maps", encoding="utf-8") as file:
            return sum(1 for _ in file)

    def work(epochs):
        bagging.fit(x, y[:, 0], batch_size=8, epochs=epochs, verbose=0)
        for _ in range(epochs):
            bagging.evaluate(x, y[:, 0], batch_size=8, verbose=0)
            bagging.predict(x, batch_size=8, verbose=0)

    work(1)
    before = maps()
    work(2)
    assert maps() - before < 50  # A program of a step takes some 30, and there are 16.
