"""Keras models as estimators: scikit-learn's own checks, and what Keras's wrappers get wrong."""

import pickle

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import has_fit_parameter

from keras_kicks.models import Bagging, KerasClassifier, KerasRegressor

pytestmark = pytest.mark.tensorflow

EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "A sample twice makes other batches than one of twice the weight.",
    "check_methods_subset_invariance": "Outputs are float32, and rounded otherwise in a batch of another size.",
}


def compiled(model, loss):
    # A graph would be made for each of a hundred fits; there are few steps in them.
    model.compile(keras.optimizers.Adam(0.1), loss, run_eagerly=True)
    return model


def classifier(shape, classes, units=8):
    dense = [keras.layers.Dense(units, "tanh"), keras.layers.Dense(classes, "softmax")]
    return compiled(keras.Sequential([keras.Input(shape), *dense]), "sparse_categorical_crossentropy")


def regressor(shape, targets):
    dense = [keras.layers.Dense(8, "tanh"), keras.layers.Dense(targets)]
    return compiled(keras.Sequential([keras.Input(shape), *dense]), "mse")


def linear(shape, outputs, activation=None):
    """Return what learns in a few eager steps, since the checks fit a hundred times."""
    return steep(keras.Sequential([keras.Input(shape), keras.layers.Dense(outputs, activation)]), activation)


def linear_bag(shape, classes):
    return steep(Bagging(lambda: linear(shape, classes, "softmax"), 2), "softmax")


def steep(model, activation):
    loss = "sparse_categorical_crossentropy" if activation else "mse"
    model.compile(keras.optimizers.SGD(0.3), loss, run_eagerly=True)
    return model


def bagged(shape, classes):
    return compiled(Bagging(lambda: classifier(shape, classes), 3), "sparse_categorical_crossentropy")


def logit(shape, classes):
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return compiled(keras.Sequential([keras.Input(shape), keras.layers.Dense(1)]), loss)


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        KerasClassifier(linear, {"activation": "softmax"}, epochs=10, batch_size=1000, random_state=0),
        KerasRegressor(linear, epochs=10, batch_size=1000, random_state=0),
        KerasClassifier(linear_bag, epochs=10, batch_size=1000, random_state=0),
    ],
    ids=["classifier", "regressor", "bagging"],
)
def test_passes_the_checks_of_scikit_learn(estimator):
    results = check_estimator(estimator, expected_failed_checks=EXPECTED_FAILURES, on_skip=None, on_fail=None)
    failed = {r["check_name"]: str(r["exception"])[:300] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 40


def iris():
    x, y = load_iris(return_X_y=True)
    return x, np.array(["setosa", "versicolor", "virginica"])[y]


def test_a_bagging_is_a_classifier():
    x, y = iris()
    estimator = KerasClassifier(bagged, epochs=20, random_state=0, oob_score=True).fit(x, y)
    probabilities = estimator.predict_proba(x)
    np.testing.assert_allclose(probabilities, estimator.model_.predict(x, verbose=0), rtol=1e-5)
    np.testing.assert_array_equal(estimator.predict(x), np.unique(y)[probabilities.argmax(axis=1)])
    outputs = estimator.model_.oob_predict(x)
    there = np.isfinite(outputs[:, 0])
    assert estimator.oob_score_ == np.mean(np.unique(y)[outputs[there].argmax(axis=1)] == y[there])
    assert estimator.score(x, y) > 0.9
    assert estimator.oob_score_ > 0.8
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict_proba(x), probabilities)


def test_a_seed_makes_fits_equal_and_leaves_the_generators_alone():
    x, y = iris()
    state = np.random.get_state()[1].copy()
    first, second = (KerasClassifier(bagged, epochs=2, random_state=4).fit(x, y).predict_proba(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert np.abs(first - KerasClassifier(bagged, epochs=2, random_state=5).fit(x, y).predict_proba(x)).max() > 1e-3


def test_a_clone_keeps_all_arguments_and_a_search_sets_them():
    arguments = {"epochs": 7, "batch_size": 50, "fit_options": {"shuffle": False}, "build_options": {"units": 3}}
    copy = clone(KerasClassifier(classifier, random_state=3, **arguments))
    assert {name: copy.get_params()[name] for name in arguments} == arguments
    x, y = iris()
    search = GridSearchCV(KerasClassifier(classifier, random_state=0), {"epochs": [1, 30]}, cv=2).fit(x, y)
    assert search.best_params_ == {"epochs": 30}
    assert len(search.best_estimator_.history_["loss"]) == 30


def test_sample_weights_are_those_of_the_model():
    x, y = iris()
    weights = np.where(y == "virginica", 0.0, 1.0)
    estimator = KerasClassifier(classifier, epochs=30, random_state=0)
    assert has_fit_parameter(estimator, "sample_weight")
    assert "virginica" not in estimator.fit(x, y, sample_weight=weights).predict(x)


def test_one_output_is_the_second_class_of_two():
    x, y = iris()
    x, y = x[y != "setosa"], y[y != "setosa"]
    estimator = KerasClassifier(logit, epochs=30, random_state=0).fit(x, y)
    expected = 1 / (1 + np.exp(-estimator.model_.predict(x, verbose=0)[:, 0].astype("float64")))
    np.testing.assert_allclose(estimator.predict_proba(x), np.stack([1 - expected, expected], axis=1), rtol=1e-5)
    np.testing.assert_array_equal(estimator.predict(x), np.where(expected > 0.5, "virginica", "versicolor"))
    assert estimator.score(x, y) > 0.8


def test_targets_keep_their_shape():
    x, y = load_iris(return_X_y=True)
    for targets in (y.astype(float), np.stack([y, -y], axis=1).astype(float)):
        assert KerasRegressor(regressor, random_state=0).fit(x, targets).predict(x).shape == targets.shape


def test_refuses_what_is_no_compiled_model():
    x, y = iris()
    with pytest.raises(TypeError, match="KerasClassifier: expected build_fn to return a Keras model"):
        KerasClassifier(lambda shape, classes: None).fit(x, y)
    with pytest.raises(ValueError, match="KerasClassifier: expected build_fn to return a model that is compiled"):
        KerasClassifier(lambda shape, classes: keras.Sequential([keras.layers.Dense(classes)])).fit(x, y)
    with pytest.raises(ValueError, match="KerasClassifier: expected a model with out-of-bag predictions"):
        KerasClassifier(classifier, oob_score=True).fit(x, y)

    def scores(shape, classes):
        parts = [keras.layers.Dense(1, "relu"), keras.layers.Rescaling(1.0, 2.0)]
        return compiled(keras.Sequential([keras.Input(shape), *parts]), "mse")

    with pytest.raises(ValueError, match="KerasClassifier: expected outputs that are probabilities"):
        KerasClassifier(scores).fit(x, y == "setosa").predict_proba(x)
