"""Bagging: its bootstrap, what it predicts, out-of-bag predictions, files, and refusals."""

import math

import keras
import numpy as np
import pytest
from keras import layers
from scipy import stats
from sklearn.datasets import load_digits, make_friedman1

from keras_kicks.models import Bagging, Boosting, DecisionStump, SharpnessAware
from keras_kicks.models.bagging.bootstrap_counts import counts_by_content, counts_by_position
from keras_kicks.models.bagging.combined_outputs import combined

pytestmark = pytest.mark.tensorflow


def linear(outputs=3, activation=None):
    return keras.Sequential([keras.Input((4,)), layers.Dense(outputs, activation)])


def data(n=60):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)).astype("float32"), rng.integers(0, 3, n)


def fitted(n=60, members=4, **arguments):
    x, y = data(n)
    bagging = Bagging(linear, members, from_logits=True, seed=3, **arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    bagging.compile("sgd", loss, metrics=["accuracy"], jit_compile=False)
    bagging.fit(x, y, verbose=0)
    return bagging, x, y


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def test_counts_are_those_of_a_bootstrap():
    n, members = 2000, 50
    counts = counts_by_position(n, members, 1.0, 1)
    assert (counts.sum(axis=0) == n).all()
    # Distinct samples: 1 - (1 - 1/n)^n on average, with a standard deviation of sqrt(n (1/e - 2/e^2)) per member.
    expected = 1 - (1 - 1 / n) ** n
    deviation = math.sqrt((1 / math.e - 2 / math.e**2) / (n * members))
    assert abs((counts > 0).mean() - expected) < 4 * deviation
    assert (counts_by_position(n, members, 0.5, 1).sum(axis=0) == n // 2).all()
    np.testing.assert_array_equal(counts_by_position(n, 3, 1.0, 1), counts[:, :3])
    assert (counts_by_position(n, 3, 1.0, 2) != counts[:, :3]).any()


@pytest.mark.parametrize("mean", [1.0, 0.3])
def test_counts_of_contents_are_independent_poisson_numbers(mean):
    x = np.random.default_rng(0).normal(size=(20000, 2))
    counts = counts_by_content((x,), 3, mean, 5)
    observed = np.stack([np.bincount(np.minimum(column, 4), minlength=5) for column in counts.T])
    probabilities = [*stats.poisson.pmf(range(4), mean), stats.poisson.sf(3, mean)]
    assert stats.chisquare(observed, len(x) * np.array(probabilities)[None], axis=1).pvalue.min() > 1e-3
    assert np.abs(np.corrcoef(counts.T)[~np.eye(3, dtype=bool)]).max() < 4 / math.sqrt(len(x))
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_array_equal(counts_by_content((x[order],), 3, mean, 5), counts[order])


def test_counts_go_with_the_samples_through_shuffled_batches():
    bagging, x, y = fitted()
    seen = {}

    class Spy(Bagging):
        def train_step(self, batch):
            inputs, counts = batch[0].values()
            if "keras_kicks_counts" in next(iter(batch[0])):
                inputs, counts = counts, inputs
            for row, count in zip(inputs.numpy(), counts.numpy(), strict=True):
                seen.setdefault(row.tobytes(), set()).add(tuple(count))
            return super().train_step(batch)

    def train(*arguments, **options):
        spy = Spy(linear, 4, from_logits=True, seed=3)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        spy.compile("sgd", loss, run_eagerly=True)
        spy.fit(*arguments, epochs=2, verbose=0, **options)
        found = [seen[row.tobytes()] for row in x if row.tobytes() in seen]
        seen.clear()
        assert all(len(counts) == 1 for counts in found), "a sample had other counts in another epoch"
        return np.array([next(iter(counts)) for counts in found])

    import tensorflow as tf

    np.testing.assert_array_equal(train(x, y, batch_size=7), bagging._counts_of_places(60, 60))
    # The last samples are for validation: the others are a bootstrap of their own.
    counts = train(x, y, validation_split=0.25, batch_size=7)
    np.testing.assert_array_equal(counts, counts_by_position(45, 4, 1.0, 3))
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(60).batch(7)
    counts = train(dataset, shuffle=False)
    assert len(counts) == 60

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return x[index::5], y[index::5]

    def generate():
        while True:
            yield from ((x[i::5], y[i::5]) for i in range(5))

    np.testing.assert_array_equal(train(Batches(), shuffle=False), counts)
    np.testing.assert_array_equal(train(generate(), steps_per_epoch=5, shuffle=False), counts)


def test_train_on_batch_counts_by_content():
    x, y = data()
    bagging, *_ = fitted()
    before = bagging.members()
    bagging.train_on_batch(x, y)
    counts = counts_by_content((x, y), 4, 1.0, 3)
    for model, after, count in zip(before, bagging.members(), counts.T, strict=True):
        model.compile("sgd", bagging.loss, jit_compile=False)
        model.train_on_batch(x, y, sample_weight=count)
        np.testing.assert_allclose(model.get_weights()[0], after.get_weights()[0], rtol=1e-5, atol=1e-6)


def test_predicts_the_mean_of_probabilities():
    bagging, x, _ = fitted()
    each = bagging.predict_members(x)
    for member, model in zip(each, bagging.members(), strict=True):
        np.testing.assert_allclose(member, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(softmax(bagging.predict(x, verbose=0)), softmax(each).mean(axis=0), rtol=1e-5)
    plain = Bagging(lambda: linear(1), 4)
    np.testing.assert_allclose(plain.predict(x, verbose=0), plain.predict_members(x).mean(axis=0), rtol=1e-5, atol=1e-6)


def test_binary_logits_are_averaged_as_probabilities():
    logits = np.random.default_rng(0).normal(size=(5, 30, 1)) * 4
    mean = (1 / (1 + np.exp(-logits))).mean(axis=0)
    got = keras.ops.convert_to_numpy(combined(keras.ops.convert_to_tensor(logits, "float32"), "mean", True))
    np.testing.assert_allclose(got, np.log(mean / (1 - mean)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("from_logits", [False, True])
def test_votes_are_the_mode(from_logits):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(6, 200, 4))
    outputs = outputs if from_logits else softmax(outputs)
    mode = stats.mode(outputs.argmax(axis=-1), axis=0).mode
    got = keras.ops.convert_to_numpy(combined(keras.ops.convert_to_tensor(outputs, "float32"), "vote", from_logits))
    np.testing.assert_array_equal(got.argmax(axis=-1), mode)
    shares = softmax(got.astype("float64")) if from_logits else got
    np.testing.assert_allclose(shares, (outputs.argmax(axis=-1)[..., None] == range(4)).mean(axis=0), atol=1e-6)
    one = rng.normal(size=(6, 200, 1)) if from_logits else rng.random((6, 200, 1))
    limit = 0 if from_logits else 0.5
    got = keras.ops.convert_to_numpy(combined(keras.ops.convert_to_tensor(one, "float32"), "vote", from_logits))
    # The mode of equal counts is the first class.
    np.testing.assert_array_equal(got > limit, stats.mode((one > limit).astype(int), axis=0).mode)


@pytest.mark.parametrize("combine", ["mean", "vote"])
def test_out_of_bag_predictions_are_of_members_that_did_not_see_the_sample(combine):
    bagging, x, y = fitted(combine=combine, n=200)
    counts, each = bagging._counts_of_places(200, 200), softmax(bagging.predict_members(x).astype("float64"))
    got = bagging.oob_predict(x)
    for i in range(200):
        unseen = each[counts[i] == 0, i]
        if len(unseen) == 0:
            assert np.isnan(got[i]).all()
            continue
        votes = unseen if combine == "mean" else unseen.argmax(axis=-1)[:, None] == range(3)
        np.testing.assert_allclose(softmax(got[i].astype("float64")), votes.mean(axis=0), atol=1e-5)
    there = np.isfinite(got).all(axis=1)
    assert 0 < (~there).sum() < 60
    results = bagging.oob_evaluate(x, y)
    logs = np.log(softmax(got[there].astype("float64")))[range(there.sum()), y[there]]
    np.testing.assert_allclose(results["loss"], -logs.mean(), rtol=1e-4)
    np.testing.assert_allclose(results["accuracy"], (got[there].argmax(axis=1) == y[there]).mean(), rtol=1e-6)


def test_out_of_bag_predictions_of_a_dataset():
    import tensorflow as tf

    x, y = data()
    bagging, *_ = fitted()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    bagging.fit(dataset, shuffle=False, verbose=0)
    got, each = bagging.oob_predict(dataset), softmax(bagging.predict_members(x))
    unseen = counts_by_content((x, y), 4, 1.0, 3).T == 0
    with np.errstate(invalid="ignore"):
        expected = np.einsum("mn,mnc->nc", unseen, each) / unseen.sum(axis=0)[:, None]
    np.testing.assert_allclose(softmax(got), expected, rtol=1e-4)


def test_one_file_holds_all_and_training_goes_on(tmp_path):
    bagging, x, y = fitted(bootstrap=0.8)
    bagging.save(tmp_path / "bagging.keras")
    loaded = keras.saving.load_model(tmp_path / "bagging.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), bagging.predict(x, verbose=0))
    np.testing.assert_array_equal(loaded.oob_predict(x), bagging.oob_predict(x))
    for model in (bagging, loaded):
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), bagging.predict(x, verbose=0))


@pytest.mark.parametrize("combine", ["mean", "vote"])
def test_becomes_a_plain_model_and_is_served(combine, tmp_path):
    import tensorflow as tf

    bagging, x, _ = fitted(combine=combine)
    expected = bagging.predict(x, verbose=0)
    bagging.to_model().save(tmp_path / "plain.keras")
    plain = keras.saving.load_model(tmp_path / "plain.keras")
    assert type(plain).__module__.startswith("keras.")
    np.testing.assert_allclose(plain.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    bagging.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), expected, rtol=1e-5, atol=1e-6)


def test_masks_reach_the_losses_and_the_output():
    def build():
        parts = [layers.Masking(), layers.Dense(4, "tanh"), layers.Dense(1)]
        return keras.Sequential([keras.Input((None, 2)), *parts])

    x = np.random.default_rng(0).normal(size=(12, 5, 2)).astype("float32")
    x[:, 3:] = 0
    y = np.random.default_rng(1).normal(size=(12, 5, 1)).astype("float32")
    bagging = Bagging(build, 2, seed=1)
    alone = bagging.members()
    bagging.compile("sgd", "mse", jit_compile=False)
    bagging.fit(x, y, verbose=0)
    for model, after, count in zip(alone, bagging.members(), bagging._counts_of_places(12, 12).T, strict=True):
        model.compile("sgd", "mse", jit_compile=False)
        model.fit(x, y, sample_weight=count[:, None] * np.ones((12, 5)), verbose=0)
        np.testing.assert_allclose(model.get_weights()[0], after.get_weights()[0], rtol=1e-5, atol=1e-6)
    changed = y.copy()
    changed[:, 3:] = 9
    assert bagging.evaluate(x, changed, verbose=0) == bagging.evaluate(x, y, verbose=0)


def test_a_replica_averages_statistics(strategy):
    def build():
        return keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(1)])

    x, y = data(16)
    with strategy.scope():
        bagging = Bagging(build, 2, seed=1)
        bagging.compile("sgd", "mse", jit_compile=False)
    kernels = [model.get_weights()[0] for model in bagging.members()]
    bagging.fit(x, y.astype("float32"), batch_size=16, verbose=0)
    for variable in bagging.variables:
        values = [value.numpy() for value in variable.value.values]
        np.testing.assert_array_equal(values[0], values[1])
    for model, kernel in zip(bagging.members(), kernels, strict=True):
        # Of halves of equal size: the mean of their means, of which a moving mean that begins at 0 takes 1 %.
        np.testing.assert_allclose(model.layers[1].moving_mean, 0.01 * (x @ kernel).mean(axis=0), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_bagging_lowers_the_error_of_unstable_networks_on_friedman_1():
    # Breiman 1996, of 200 samples: trees 11.4, bagged trees 6.2, which is 46 % less. Networks that are wide, with large
    # first weights and trained for long, are as unstable.
    x, y = make_friedman1(200, noise=1.0, random_state=0)
    test, answers = make_friedman1(1000, noise=1.0, random_state=1)
    mean, scale = y.mean(), y.std()

    def build():
        large = keras.initializers.VarianceScaling(40.0)
        parts = [layers.Dense(256, "tanh", kernel_initializer=large), layers.Dense(1)]
        return keras.Sequential([keras.Input((10,)), *parts])

    def errors(bootstrap):
        bagging = Bagging(build, 25, bootstrap=bootstrap, seed=0)
        bagging.compile(keras.optimizers.Adam(0.03), "mse", jit_compile=False)
        bagging.fit(x, (y - mean) / scale, batch_size=64, epochs=150, verbose=0)
        together = bagging.predict(test, verbose=0)[:, 0] * scale + mean
        each = bagging.predict_members(test)[..., 0] * scale + mean
        return np.mean((together - answers) ** 2), np.mean((each - answers) ** 2), bagging

    _, unbagged, _ = errors(False)
    bagged, of_a_member, bagging = errors(True)
    assert bagged < 0.65 * unbagged
    # About a third of the members predict a sample out of bag: more than all would err, less than one.
    out_of_bag = np.nanmean((bagging.oob_predict(x)[:, 0] * scale + mean - y) ** 2)
    assert 0.7 * bagged < out_of_bag < of_a_member


def test_out_of_bag_accuracy_is_near_that_of_new_digits():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    bagging = Bagging(lambda: keras.Sequential([keras.Input((64,)), layers.Dense(10, "softmax")]), 15, seed=0)
    bagging.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    bagging.fit(x[:1000], y[:1000], epochs=5, verbose=0)
    new = bagging.evaluate(x[1000:], y[1000:], verbose=0)[1]
    assert abs(bagging.oob_evaluate(x[:1000], y[:1000])["accuracy"] - new) < 0.05


REFUSED = {
    "no member": (ValueError, "expected n >= 1", {"n": 0}),
    "part of a member": (TypeError, "expected an integer for n", {"n": 1.5}),
    "a model": (TypeError, "expected a function for build_fn", {"build_fn": "linear"}),
    "no model": (TypeError, "expected build_fn to return a Keras model", {"build_fn": lambda: None}),
    "draws": (ValueError, "expected 0 < bootstrap <= 1", {"bootstrap": 1.5}),
    "combination": (ValueError, "expected combine to be one of 'mean', 'vote'", {"combine": "median"}),
    "seed": (TypeError, "expected an integer for seed", {"seed": "a"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    error, message, arguments = REFUSED[name]
    with pytest.raises(error, match=f"Bagging: {message}"):
        Bagging(**{"build_fn": linear, "n": 2, **arguments})


def test_refuses_models_that_are_or_share_one():
    model, shared = linear(), layers.Dense(3)
    for build in (lambda: model, lambda: keras.Sequential([keras.Input((4,)), shared])):
        with pytest.raises(ValueError, match="Bagging: expected a new model in each call of build_fn"):
            Bagging(build, 2)
    makers = iter([linear, lambda: linear(2)])
    with pytest.raises(ValueError, match="Bagging: expected outputs of one shape"):
        Bagging(lambda: next(makers)(), 2)
    makers = iter([linear, lambda: linear(3, "relu")])
    with pytest.raises(ValueError, match="Bagging: expected members that are alike for stacked=True"):
        Bagging(lambda: next(makers)(), 2, stacked=True)


def test_refuses_members_that_learn_in_a_way_of_their_own():
    class OfItsOwnLoss(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return 0.0

    def replaced():
        model = linear()
        model.train_step = lambda data: {}
        return model

    for build, own in (
        (lambda: DecisionStump(3), r"DecisionStump\.fit"),
        (lambda: Boosting(linear, 3), r"Boosting\.fit', 'Boosting\.compute_loss"),
        (lambda: SharpnessAware(linear()), r"SharpnessAware\.train_step"),
        (lambda: OfItsOwnLoss(), r"OfItsOwnLoss\.compute_loss"),
        (replaced, r"Sequential\.train_step"),
    ):
        message = rf"expected models that learn as a keras\.Model does.*; got own=\['{own}'\]\. scikit-learn's Bagging"
        with pytest.raises(ValueError, match=f"Bagging: {message}"):
            Bagging(build, 2)


def test_refuses_votes_on_numbers():
    x, y = data()
    bagging = Bagging(lambda: linear(1), 2, combine="vote", seed=0)
    bagging.compile("sgd", "mse", run_eagerly=True)
    message = r"Bagging: expected labels of classes for combine='vote'; got labels=\[10\.5\]\. Pass combine='mean'"
    with pytest.raises(ValueError, match=message):
        bagging.fit(x, np.where(np.arange(60) == 7, 10.5, 0.25), verbose=0)
    bagging.fit(x, np.where(y > 0, 0.9, 0.1), verbose=0)  # smoothed labels of two classes


def test_refuses_a_bootstrap_without_both_classes():
    x, _ = data(10)
    y = np.zeros(10, "int32")
    y[3] = 1
    bagging = Bagging(lambda: linear(1, "sigmoid"), 8, seed=0)
    message = r"both classes in the bootstrap sample of each member; got member=\d, missing=\[1\]. Give more samples"
    for labels, loss in (
        (y, "binary_crossentropy"),
        (y[:, None], keras.losses.BinaryCrossentropy()),
        (y, "sparse_categorical_crossentropy"),
        (np.eye(2)[y], "categorical_crossentropy"),
    ):
        bagging.compile("sgd", loss)
        with pytest.raises(ValueError, match=f"Bagging: expected {message}"):
            bagging.fit(x, labels, verbose=0)
    y[:5] = 1
    bagging = Bagging(lambda: linear(1, "sigmoid"), 2, seed=0)
    bagging.compile("sgd", "binary_crossentropy", run_eagerly=True)
    bagging.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"both classes in the bootstrap .*; got member=0, missing=\[1\]"):
        bagging.fit(x, y, sample_weight=(y == 0).astype("float32"), verbose=0)
    bagging.compile("sgd", "mse", run_eagerly=True)
    bagging.fit(x, y, verbose=0)


def test_refuses_out_of_bag_predictions_without_a_bag():
    x, y = data()
    bagging, *_ = fitted()
    for samples in (x[:50], x[:, None][:0]):
        with pytest.raises(ValueError, match="Bagging: expected as many samples"):
            bagging.oob_predict(samples)
    with pytest.raises(ValueError, match="Bagging: expected a fit on arrays before"):
        Bagging(linear, 2).oob_predict(x)
    with pytest.raises(ValueError, match="Bagging: expected a bootstrap; got bootstrap=False"):
        Bagging(linear, 2, bootstrap=False).oob_predict(x)
    with pytest.raises(TypeError, match=r"Bagging: expected arrays, a tf\.data\.Dataset"):
        bagging.fit(object(), y)
