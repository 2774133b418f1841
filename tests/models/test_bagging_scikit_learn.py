"""Bagging beside scikit-learn's BaggingClassifier: of the same learners on the same bootstrap samples."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from keras_kicks.models import Bagging, DecisionStump, KerasClassifier

pytestmark = pytest.mark.tensorflow
MEMBERS = 20


def iris():
    x, y = load_iris(return_X_y=True)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32"), y


@pytest.mark.slow
def test_a_bag_of_logistic_regressions_is_that_of_scikit_learn(monkeypatch):
    """Predictions, those out of bag, and the accuracy as the bag grows, of regressions with the penalty |w|^2 / 2."""
    x, y = iris()
    learner = LogisticRegression(C=1.0, tol=1e-8, max_iter=10000)
    theirs = BaggingClassifier(learner, MEMBERS, oob_score=True, random_state=1)
    theirs.fit(x.astype("float64"), y)  # Of float32 it stops far from the minimum.
    drawn = np.stack([np.bincount(places, minlength=len(x)) for places in theirs.estimators_samples_], axis=1)
    monkeypatch.setattr(Bagging, "_counts_of_places", lambda self, samples, _: np.resize(drawn, (samples, MEMBERS)))

    def build():
        # scikit-learn's loss is a sum over the samples, Keras's a mean.
        dense = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(1 / (2 * len(x))))
        return keras.Sequential([keras.Input((4,)), dense])

    ours = Bagging(build, MEMBERS, from_logits=True, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ours.compile(keras.optimizers.SGD(0.4, momentum=0.9, nesterov=True), loss, jit_compile=False)
    # All samples in each batch, again and again.
    again = np.resize(np.arange(len(x)), 100 * len(x))
    ours.fit(x[again], y[again], batch_size=len(x), epochs=15, shuffle=False, verbose=0)
    ours.drawn.assign(len(x))

    def probabilities(logits):
        return keras.ops.convert_to_numpy(keras.ops.softmax(logits))

    each = probabilities(ours.predict_members(x))
    for member, estimator in zip(each, theirs.estimators_, strict=True):
        np.testing.assert_allclose(member, estimator.predict_proba(x), rtol=0, atol=1e-4)
    np.testing.assert_allclose(probabilities(ours.predict(x, verbose=0)), theirs.predict_proba(x), atol=1e-4)
    np.testing.assert_allclose(probabilities(ours.oob_predict(x)), theirs.oob_decision_function_, atol=1e-4)
    curve = [(each[:m].mean(axis=0).argmax(axis=1) == y).mean() for m in range(1, MEMBERS + 1)]
    votes = np.cumsum([estimator.predict_proba(x) for estimator in theirs.estimators_], axis=0)
    assert curve == [(vote.argmax(axis=1) == y).mean() for vote in votes]


def test_stumps_in_the_bag_of_scikit_learn_are_its_trees():
    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype("float32")
    ours = BaggingClassifier(KerasClassifier(lambda shape, classes: DecisionStump(classes)), MEMBERS, random_state=0)
    theirs = BaggingClassifier(DecisionTreeClassifier(max_depth=1), MEMBERS, random_state=0).fit(x, y)
    np.testing.assert_allclose(ours.fit(x, y).predict_proba(x), theirs.predict_proba(x), atol=1e-6)
