"""Keras models, ensembles among them, as estimators of scikit-learn."""

import contextlib
import random

import keras
import numpy as np

from keras_kicks._errors import expect
from keras_kicks.models.boosting.boosting import Boosting

# Its classes are bases of ours, so it has to be here. Keras imports it, too, for `keras.wrappers`.
try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
except ImportError:
    BaseEstimator = ClassifierMixin = RegressorMixin = None


class _Estimator(BaseEstimator or object):
    """What classifiers and regressors have in common."""

    def __init__(
        self,
        build_fn,
        build_options=None,
        epochs=1,
        batch_size=None,
        verbose=0,
        fit_options=None,
        oob_score=False,
        random_state=None,
    ):
        # scikit-learn wants arguments kept as they are; they are looked at in `fit`.
        self.build_fn = build_fn
        self.build_options = build_options
        self.epochs = epochs
        self.batch_size = batch_size
        self.verbose = verbose
        self.fit_options = fit_options
        self.oob_score = oob_score
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Make a model and train it.

        Args:
            X: Array of shape (samples, features), or of more axes.
            y: Array of shape (samples,); targets also (samples, targets).
            sample_weight: Array of shape (samples,), or None.

        Returns:
            The estimator.

        Raises:
            TypeError: what build_fn returns is no Keras model.
            ValueError: expected a model that is compiled; for oob_score, a model with out-of-bag predictions.
        """
        owner = type(self).__name__
        expect(BaseEstimator is not None, owner, "scikit-learn", "Install scikit-learn.", ImportError, sklearn=None)
        X, y = self._validated(X, y)
        targets, outputs = self._encoded(y)
        if sample_weight is not None:
            from sklearn.utils.validation import _check_sample_weight

            sample_weight = _check_sample_weight(sample_weight, X)
        with _seeded(self.random_state):
            model = self.build_fn(X.shape[1:], outputs, **(self.build_options or {}))
            expect(isinstance(model, keras.Model), owner, "build_fn to return a Keras model", "", TypeError, got=model)
            rule = "build_fn to return a model that is compiled"
            # A `fit` of its own, as that of a `DecisionStump`, says itself what it lacks.
            ready = model.compiled or type(model).fit is not keras.Model.fit
            expect(ready, owner, rule, "Call its compile.", compiled=model.compiled)
            has_bag = hasattr(model, "oob_predict")
            rule, remedy = "a model with out-of-bag predictions for oob_score", "Let build_fn return a Bagging."
            expect(has_bag or not self.oob_score, owner, rule, remedy, model=type(model).__name__)
            history = model.fit(
                X,
                targets,
                batch_size=self.batch_size,
                epochs=self.epochs,
                verbose=self.verbose,
                sample_weight=sample_weight,
                **(self.fit_options or {}),
            )
        self.model_, self.history_ = model, history.history
        if self.oob_score:
            self._score_out_of_bag(X, y)
        return self

    def _outputs(self, X):
        """Return what the model predicts, in float64."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "model_")
        X = self._validated(X, reset=False)
        outputs = self.model_.predict(X, batch_size=self.batch_size, verbose=0)
        return np.asarray(outputs, "float64").reshape(len(X), -1)

    def _validated(self, X, *y, reset=True):
        options = {"allow_nd": True, "reset": reset, **({"multi_output": True} if y else {})}
        try:
            from sklearn.utils.validation import validate_data
        except ImportError:  # Before scikit-learn 1.6 it was a method.
            return self._validate_data(X, *y, **options)
        return validate_data(self, X, *y, **options)

    def _score_out_of_bag(self, X, y):
        """Keep the score of out-of-bag predictions, of the samples that have one."""
        from sklearn.metrics import accuracy_score, r2_score

        outputs = np.asarray(self.model_.oob_predict(X, batch_size=self.batch_size), "float64").reshape(len(X), -1)
        predicted, there = self._decoded(outputs), np.isfinite(outputs).all(axis=1)
        score = accuracy_score if hasattr(self, "classes_") else r2_score
        self.oob_score_ = score(np.asarray(y)[there], predicted[there])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags

    def _more_tags(self):
        # scikit-learn before 1.6.
        return {"non_deterministic": self.random_state is None}


class KerasClassifier(*filter(None, (ClassifierMixin, _Estimator))):
    """Classifier of scikit-learn around any Keras model, an ensemble for instance.

    Classes may be of any kind: the model gets the ids 0, 1, .... Its outputs are one for each class, or one for the
    second class of two; they are probabilities, as those of a `Boosting` always are, or logits if the model or its loss
    has a true `from_logits`.

    It is in place of `keras.wrappers.SKLearnClassifier`, which has no `predict_proba`, loses the options for `fit` in a
    clone (as `GridSearchCV` and `BaggingClassifier` make them), hides `sample_weight`, and has no seed.

    Args:
        build_fn: Function of the shape of a sample and the number of classes that returns a compiled Keras model.
        build_options: Dict of more arguments for it.
        epochs: As in `keras.Model.fit`.
        batch_size: As in `keras.Model.fit`.
        verbose: As in `keras.Model.fit`.
        fit_options: Dict of more arguments for `fit` of the model.
        oob_score: Whether to keep the accuracy of out-of-bag predictions, of a `Bagging`, as `oob_score_`.
        random_state: Seed of weights, order and draws; None, an integer or a `numpy.random.RandomState`. TensorFlow's
            global seed stays set to it, those of Python and NumPy are put back.

    Attributes:
        model_: The trained model.
        history_: Dict of the history of its training.
        classes_: The classes, sorted.
        oob_score_: With oob_score.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.models import Bagging
        >>> def build(shape, classes):
        ...     def member():
        ...         return keras.Sequential([keras.Input(shape), keras.layers.Dense(classes, "softmax")])
        ...     model = Bagging(member, 3)
        ...     model.compile("adam", "sparse_categorical_crossentropy")
        ...     return model
        >>> x = np.random.default_rng(0).normal(size=(30, 2))
        >>> classifier = KerasClassifier(build, epochs=2, random_state=0).fit(x, np.where(x[:, 0] > 0, "yes", "no"))
        >>> classifier.predict_proba(x).shape, classifier.classes_.tolist()
        ((30, 2), ['no', 'yes'])
    """

    def _encoded(self, y):
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import column_or_1d

        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, ids = np.unique(y, return_inverse=True)
        rule = "samples of more than one class"
        expect(len(self.classes_) > 1, type(self).__name__, rule, classes=self.classes_.tolist())
        return ids, len(self.classes_)

    def _decoded(self, outputs):
        if outputs.shape[1] > 1:
            # Where a prediction is missing it is NaN in all outputs.
            return self.classes_[np.argmax(np.nan_to_num(outputs), axis=1)]
        return self.classes_[(outputs[:, 0] > (0 if self._are_logits() else 0.5)).astype(int)]

    def _are_logits(self):
        if isinstance(self.model_, Boosting):
            return False  # Its loss is that of the learners.
        return any(getattr(part, "from_logits", False) for part in (self.model_, self.model_.loss))

    def predict(self, X):
        """Return the most probable class of each sample."""
        return self._decoded(self._outputs(X))

    def predict_proba(self, X):
        """Return the probability of each class, in the order of `classes_`.

        Raises:
            ValueError: expected outputs that are probabilities, or logits with from_logits.
        """
        outputs = self._outputs(X)
        if self._are_logits():
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1) if outputs.shape[1] == 1 else outputs
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            return outputs / outputs.sum(axis=1, keepdims=True)
        if outputs.shape[1] == 1:
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        sums = outputs.sum(axis=1)
        # Of outputs in 16 bits.
        probable = (outputs >= 0).all() and np.allclose(sums, 1, atol=0.02)
        rule, remedy = (
            "outputs that are probabilities",
            "Give the loss of the model from_logits=True if they are logits.",
        )
        expect(probable, type(self).__name__, rule, remedy, sums=[float(s) for s in sums[:3]])
        return outputs / sums[:, None]


class KerasRegressor(*filter(None, (RegressorMixin, _Estimator))):
    """Regressor of scikit-learn around any Keras model, an ensemble for instance.

    It is in place of `keras.wrappers.SKLearnRegressor`, which loses the options for `fit` in a clone, hides
    `sample_weight`, and has no seed.

    Args:
        build_fn: Function of the shape of a sample and the number of targets that returns a compiled Keras model.
        build_options: Dict of more arguments for it.
        epochs: As in `keras.Model.fit`.
        batch_size: As in `keras.Model.fit`.
        verbose: As in `keras.Model.fit`.
        fit_options: Dict of more arguments for `fit` of the model.
        oob_score: Whether to keep R^2 of out-of-bag predictions, of a `Bagging`, as `oob_score_`.
        random_state: Seed of weights, order and draws; None, an integer or a `numpy.random.RandomState`. TensorFlow's
            global seed stays set to it, those of Python and NumPy are put back.

    Attributes:
        model_: The trained model.
        history_: Dict of the history of its training.
        oob_score_: With oob_score.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _more_tags(self):
        return {**super()._more_tags(), "multioutput": True}

    def _encoded(self, y):
        y = np.asarray(y, keras.config.floatx())
        self._one_target = y.ndim == 1
        columns = y.reshape(len(y), -1)
        return columns, columns.shape[1]

    def _decoded(self, outputs):
        return outputs[:, 0] if self._one_target else outputs

    def predict(self, X):
        """Return the targets of each sample."""
        return self._decoded(self._outputs(X))


@contextlib.contextmanager
def _seeded(random_state):
    """Seed all that Keras draws from, and put back the generators of Python and NumPy."""
    if random_state is None:
        yield
        return
    from sklearn.utils import check_random_state

    is_number = not isinstance(random_state, np.random.RandomState)
    seed = int(random_state) if is_number else int(check_random_state(random_state).randint(2**31 - 1))
    states = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
