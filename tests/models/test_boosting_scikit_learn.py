"""Boosting as an estimator of scikit-learn."""

import pickle

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

from keras_kicks.models import Boosting, DecisionStump, KerasClassifier, KerasRegressor

pytestmark = pytest.mark.tensorflow


def stumps(shape, classes, n=5):
    boosting = Boosting(lambda: DecisionStump(classes), n, seed=0)
    boosting.compile()
    return boosting


def numbers(shape, targets, n=5):
    boosting = Boosting(lambda: DecisionStump(num_targets=targets), n, "gradient", seed=0)
    boosting.compile()
    return boosting


def networks(shape, classes):
    boosting = Boosting(lambda: keras.Sequential([keras.Input(shape), keras.layers.Dense(classes)]), 3, seed=0)
    logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    boosting.compile(keras.optimizers.Adam(0.1), logits, jit_compile=False)
    return boosting


def data(samples=120):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 4)).astype("float32")
    return x, np.array(["in", "on", "out"])[np.digitize((x**2).sum(axis=1), [2.5, 4.5])]


def test_scores_are_those_of_scikit_learn():
    x, y = data(600)  # with few samples splits are equally good, and scikit-learn draws one
    ours = KerasClassifier(stumps, build_options={"n": 8}, random_state=0)
    theirs = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=8)
    np.testing.assert_allclose(cross_val_score(ours, x, y, cv=3), cross_val_score(theirs, x, y, cv=3))
    ours.fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.fit(x, y).predict_proba(x), atol=1e-5)
    target = x[:, 0] ** 2 + x[:, 1]
    ours = KerasRegressor(numbers, build_options={"n": 8}, random_state=0).fit(x, target)
    theirs = GradientBoostingRegressor(n_estimators=8, max_depth=1, learning_rate=1.0).fit(x, target)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), atol=1e-5)


def test_it_is_searched_cloned_and_pickled():
    x, y = data(60)
    search = GridSearchCV(KerasClassifier(stumps, random_state=0), {"build_options": [{"n": 1}, {"n": 9}]}, cv=2)
    assert search.fit(x, y).best_params_ == {"build_options": {"n": 9}}
    best = search.best_estimator_
    for again in (pickle.loads(pickle.dumps(best)), clone(best).fit(x, y)):
        np.testing.assert_array_equal(again.predict_proba(x), best.predict_proba(x))


def test_probabilities_are_no_logits():
    """Those of the ensemble, where the loss of the learners takes logits."""
    x, y = data()
    estimator = KerasClassifier(networks, epochs=5, random_state=0).fit(x, y == "out")
    expected = estimator.model_.predict(x, verbose=0)
    np.testing.assert_allclose(estimator.predict_proba(x), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("build", [stumps, numbers], ids=["classifier", "regressor"])
def test_passes_the_checks_of_scikit_learn(build):
    kind = KerasClassifier if build is stumps else KerasRegressor
    several = {"check_supervised_y_2d": "A regressor takes several targets, without a warning."}
    expected = several if kind is KerasRegressor else {}
    results = check_estimator(kind(build, random_state=0), expected_failed_checks=expected, on_skip=None, on_fail=None)
    failed = {r["check_name"]: str(r["exception"])[:300] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 40
