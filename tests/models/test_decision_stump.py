"""The decision stump, against scikit-learn's tree of depth 1 and against every split there is."""

import keras
import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from keras_kicks.models import DecisionStump


def data(samples=200, features=5, classes=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, features)).astype("float32")
    y = np.digitize(x[:, 1] - 0.5 * x[:, 2] + 0.5 * rng.normal(size=samples), np.linspace(-1, 1, classes + 1)[1:-1])
    weights = rng.exponential(size=samples) * (rng.random(samples) < 0.9)
    return x, y, weights


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
def test_it_is_the_tree_of_scikit_learn_for_classes(classes, weighted, one_hot):
    x, y, weights = data(classes=classes)
    weights = weights if weighted else None
    tree = DecisionTreeClassifier(max_depth=1).fit(x, y, sample_weight=weights)
    stump = DecisionStump(classes)
    history = stump.fit(x, np.eye(classes)[y] if one_hot else y, sample_weight=weights, epochs=3, batch_size=7)
    assert int(stump.feature) == tree.tree_.feature[0]
    assert float(stump.threshold) == pytest.approx(tree.tree_.threshold[0], rel=1e-6)
    np.testing.assert_allclose(stump.predict(x, verbose=0), tree.predict_proba(x), atol=1e-6)
    assert history.history["loss"] == [pytest.approx(1 - tree.score(x, y, weights))]


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_it_is_the_tree_of_scikit_learn_for_numbers(offset):
    x, y, weights = data()
    y = y + x[:, 0].astype("float64") + offset
    tree = DecisionTreeRegressor(max_depth=1).fit(x, y, sample_weight=weights)
    stump = DecisionStump()
    loss = stump.fit(x, y, sample_weight=weights).history["loss"][0]
    assert int(stump.feature) == tree.tree_.feature[0]
    np.testing.assert_allclose(stump.predict(x, verbose=0)[:, 0], tree.predict(x), rtol=1e-6)
    assert loss == pytest.approx(np.average((tree.predict(x) - y) ** 2, weights=weights), rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_tree_of_scikit_learn_for_several_targets(weighted, tmp_path):
    """One split for all of them, though each alone would have another."""
    x, _, weights = data()
    y = np.stack([2 * x[:, 0], (x[:, 1] > 0.3) - x[:, 0], np.abs(x[:, 2])], axis=1).astype("float64")
    weights = weights if weighted else None
    tree = DecisionTreeRegressor(max_depth=1).fit(x, y, sample_weight=weights)
    stump = DecisionStump(num_targets=3)
    loss = stump.fit(x, y, sample_weight=weights).history["loss"][0]
    assert int(stump.feature) == tree.tree_.feature[0]
    np.testing.assert_allclose(stump.predict(x, verbose=0), tree.predict(x), rtol=1e-6)
    errors = ((tree.predict(x) - y) ** 2).mean(axis=1)
    assert loss == pytest.approx(np.average(errors, weights=weights), rel=1e-6)
    stump.save(tmp_path / "stump.keras")
    again = keras.saving.load_model(tmp_path / "stump.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), stump.predict(x, verbose=0))


def test_class_weights_are_weights_of_the_samples():
    x, y, weights = data()
    tree = DecisionTreeClassifier(max_depth=1, class_weight={0: 1.0, 1: 0.2, 2: 3.0}).fit(x, y, sample_weight=weights)
    stump = DecisionStump(3)
    stump.fit(x, y, sample_weight=weights, class_weight={1: 0.2, 2: 3.0})
    np.testing.assert_allclose(stump.predict(x, verbose=0), tree.predict_proba(x), atol=1e-6)


def test_no_split_has_less_misclassification():
    x, y, weights = data(60, 3)
    stump = DecisionStump(3, criterion="misclassification")
    found = stump.fit(x, y, sample_weight=weights).history["loss"][0]
    share = np.eye(3)[y] * weights[:, None]
    least = min(
        1 - (share[column <= t].sum(axis=0).max() + share[column > t].sum(axis=0).max()) / share.sum()
        for column in x.T
        for t in column[column < column.max()]
    )
    assert found == pytest.approx(least)
    assert found == pytest.approx(np.average(stump.predict(x, verbose=0).argmax(axis=1) != y, weights=weights))
    gini = DecisionStump(3).fit(x, y, sample_weight=weights).history["loss"][0]
    assert found < gini - 1e-3  # else the criterion is not looked at


def test_no_training_sample_changes_sides():
    """Neighbors of float32, half way between which there is no number, and those whose half rounds to the upper."""
    low = np.float32(1) + np.float32(2.0**-23)
    x = np.array([[1.0], [low], [low + np.float32(2.0**-23)]], "float32")
    for labels in ([0, 0, 1], [0, 1, 1]):
        stump = DecisionStump(2)
        stump.fit(x, np.array(labels))
        assert stump.predict(x, verbose=0).argmax(axis=1).tolist() == labels


def test_weights_that_are_next_to_nothing():
    """The last samples weigh less than the rounding of the sums: they are no side of their own."""
    x = np.arange(40.0)[:, None]
    y, weights = np.arange(40) // 10 % 2, np.where(np.arange(40) < 37, 0.1, 1e-19)
    stump, tree = DecisionStump(2), DecisionTreeClassifier(max_depth=1)
    stump.fit(x, y, sample_weight=weights)
    tree.fit(x[:37], y[:37])
    assert float(stump.threshold) == tree.tree_.threshold[0]


def test_a_sample_twice_is_one_of_twice_the_weight():
    """Also where several splits are equally good, on a few whole numbers."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        x, y, times = rng.integers(0, 4, (9, 6)), rng.integers(0, 2, 9), rng.integers(0, 4, 9)
        stumps = [DecisionStump(2) for _ in range(2)]
        stumps[0].fit(x, y, sample_weight=0.1 * times)
        stumps[1].fit(np.repeat(x, times, axis=0), np.repeat(y, times))
        for a, b in zip(*(stump.get_weights() for stump in stumps), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_of_two_equally_good_splits_it_is_the_first():
    """Of what is the same from both ends, where the sums are rounded differently."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        half, weights = np.array([1, 0, 0, 0]), rng.exponential(size=4)
        stump = DecisionStump(2)
        both = [np.concatenate([a, a[::-1]]) for a in (half, weights)]
        stump.fit(np.arange(8.0)[:, None], both[0], sample_weight=both[1])
        assert float(stump.threshold) == 0.5


def test_nothing_to_split():
    stump = DecisionStump()
    stump.fit(np.ones((4, 2)), np.array([1.0, 2.0, 3.0, 6.0]))
    assert stump.predict(np.array([[0.0, 5.0]]), verbose=0).tolist() == [[3.0]]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_compares_in_float32(policy):
    """Two inputs that are the same number in half precision."""
    keras.config.set_dtype_policy(policy)
    stump = DecisionStump(2)
    x = np.array([[1.0], [1.0001]], "float32")
    stump.fit(x, np.array([0, 1]))
    output = stump(x)
    assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")
    assert keras.ops.convert_to_numpy(keras.ops.argmax(output, axis=1)).tolist() == [0, 1]


def test_it_is_saved_and_evaluated(tmp_path):
    x, y, _ = data()
    stump = DecisionStump(3, criterion="misclassification")
    loss = stump.fit(x, y).history["loss"][0]
    stump.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    assert stump.evaluate(x, y, verbose=0)[1] == pytest.approx(1 - loss, rel=1e-6)
    stump.save(tmp_path / "stump.keras")
    again = keras.saving.load_model(tmp_path / "stump.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), stump.predict(x, verbose=0))
    assert again.criterion == "misclassification"


@pytest.mark.tensorflow
def test_batches_are_put_together():
    import tensorflow as tf

    x, y, weights = data()
    stumps = [DecisionStump(3) for _ in range(2)]
    stumps[0].fit(x, y, sample_weight=weights)
    stumps[1].fit(tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(32))
    for a, b in zip(*(stump.get_weights() for stump in stumps), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_classes": 1}, ValueError, "expected num_classes >= 2; got num_classes=1"),
        ({"num_classes": 2.5}, TypeError, "expected an integer for num_classes"),
        ({"num_targets": 0}, ValueError, "expected num_targets >= 1; got num_targets=0"),
        ({"num_targets": 2.0}, TypeError, "expected an integer for num_targets"),
        ({"num_classes": 2, "num_targets": 3}, ValueError, "expected one target with num_classes; got num_targets=3"),
        ({"criterion": "entropy"}, ValueError, "expected criterion to be one of 'gini', 'misclassification'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"DecisionStump: {message}"):
        DecisionStump(**arguments)


NAN = np.array([[0.0], [np.nan]])


@pytest.mark.parametrize(
    ("x", "y", "more", "message"),
    [
        (NAN, [0, 1], {}, "finite inputs of shape"),
        (np.zeros((2, 1, 1)), [0, 1], {}, "finite inputs of shape"),
        (np.zeros((2, 1)), [0, 2], {}, r"class ids in \[0, 2\); got found=\[2\]"),
        (np.zeros((2, 1)), ["a", "b"], {}, r"class ids in \[0, 2\), or one-hot rows; got dtype='<U1'"),
        (np.zeros((2, 1)), [[0.5, 0.5], [1, 0]], {}, "one-hot rows: a single 1 in each"),
        (np.zeros((2, 1)), [0, 1, 1], {}, "as many labels and weights as inputs"),
        (np.zeros((2, 1)), [0, 1], {"sample_weight": np.zeros(2)}, "sample weights that are not all zero"),
        (np.zeros((2, 1)), [0, 1], {"sample_weight": np.array([1.0, -1.0])}, "finite weights >= 0"),
        (np.zeros((0, 1)), [], {}, "at least one sample"),
    ],
)
def test_bad_data(x, y, more, message):
    with pytest.raises(ValueError, match=f"DecisionStump: expected {message}"):
        DecisionStump(2).fit(x, np.array(y), **more)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3, 1), (2, 1)])
def test_labels_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"expected labels of shape \(samples, 3\)"):
        DecisionStump(num_targets=3).fit(np.zeros((2, 1)), np.zeros(shape))


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match=r"arguments of keras.Model.fit; got unknown=\['depth'\]"):
        DecisionStump(2).fit(np.zeros((2, 1)), np.array([0, 1]), depth=2)
