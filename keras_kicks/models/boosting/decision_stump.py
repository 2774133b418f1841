"""The smallest decision tree, as a model."""

import inspect

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer
from keras_kicks.models.boosting.class_labels import class_ids
from keras_kicks.models.boosting.data import sample_weights, whole


@keras.saving.register_keras_serializable(package="keras_kicks")
class DecisionStump(keras.Model):
    """Decision tree of one split, which `fit` finds exactly.

        y(x) = left  if x[feature] <= threshold else right

    `fit` looks at every threshold half way between two neighbors in every feature, and takes the one with the least
    weighted impurity: squared error for numbers, the Gini index or the share of wrong labels for classes. It needs no
    optimizer, no epochs and no `compile`, takes all samples at once, and answers with the weighted mean or the weighted
    shares of the classes on each side. As a model it is saved, exported and called like any other; `left` and `right`
    are trainable weights. The least learner that boosting is tried with.

    Args:
        num_classes: Number of classes, 2 or more, or None for regression.
        criterion: "gini" or "misclassification", for classes.
        num_targets: Number of numbers that regression finds for each sample; one split serves them all.
        name: Name of the model.
        **kwargs: Base model arguments.

    Call arguments:
        inputs: Shape (batch, features). They are compared in float32, under mixed precision too.

    Returns:
        Shape (batch, num_classes), the shares of the classes, or (batch, num_targets).

    Raises:
        TypeError: `num_classes` or `num_targets` is no integer.
        ValueError: expected num_classes >= 2; criterion to be one of its names; num_targets >= 1, and 1 with classes;
            in `fit` finite inputs of shape (samples, features), finite labels, class ids in [0, num_classes).

    Source:
        Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984. Departure: thresholds are
        float32 numbers, rounded so that no training sample changes sides.

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> stump = DecisionStump()
        >>> history = stump.fit(x, np.array([1.0, 1.0, 5.0, 7.0]))
        >>> stump.predict(x, verbose=0)[:, 0].tolist()
        [1.0, 1.0, 6.0, 6.0]
    """

    # What it learns depends on the data alone: an ensemble need not make a new one for each round.
    fit_begins_anew = True

    def __init__(self, num_classes=None, criterion="gini", num_targets=1, name="decision_stump", **kwargs):
        owner = type(self).__name__
        if num_classes is not None:
            expect_integer(owner, num_classes=num_classes)
            expect(num_classes >= 2, owner, "num_classes >= 2", "None is for regression.", num_classes=num_classes)
        expect_choice(owner, ("gini", "misclassification"), criterion=criterion)
        expect_integer(owner, num_targets=num_targets)
        expect(num_targets >= 1, owner, "num_targets >= 1", num_targets=num_targets)
        rule, remedy = "one target with num_classes", "num_targets is for regression."
        expect(num_classes is None or num_targets == 1, owner, rule, remedy, num_targets=num_targets)
        super().__init__(name=name, **kwargs)
        self.autocast = False
        self.num_classes = num_classes
        self.criterion = criterion
        self.num_targets = num_targets

    def build(self, input_shape):
        """Create the weights."""
        expect(len(input_shape) == 2, type(self).__name__, "inputs of shape (batch, features)", shape=input_shape)
        units = self.num_classes or self.num_targets
        self.feature = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="feature")
        self.threshold = self.add_weight(shape=(), initializer="zeros", trainable=False, name="threshold")
        self.left = self.add_weight(shape=(units,), initializer="zeros", name="left")
        self.right = self.add_weight(shape=(units,), initializer="zeros", name="right")
        self.built = True

    def call(self, inputs):
        """Return what is on the side of each sample."""
        column = ops.take(ops.cast(inputs, "float32"), self.feature, axis=-1)
        is_left = ops.less_equal(column, ops.cast(self.threshold, "float32"))[:, None]
        return ops.where(is_left, ops.cast(self.left, self.compute_dtype), ops.cast(self.right, self.compute_dtype))

    def compute_output_shape(self, input_shape):
        """Return (batch, outputs)."""
        return (input_shape[0], self.num_classes or self.num_targets)

    def fit(self, x=None, y=None, sample_weight=None, class_weight=None, **kwargs):
        """Find the best split.

        Args:
            x: As in `keras.Model.fit`: arrays or batches, which are put together.
            y: Labels: numbers of shape (samples,) or (samples, num_targets), or class ids or one-hot rows.
            sample_weight: None or a weight >= 0 for each sample.
            class_weight: None or a weight for each class id.
            **kwargs: What else `keras.Model.fit` takes. It has no meaning here: there is one way to the best split.

        Returns:
            A `keras.callbacks.History` with the weighted "loss": mean squared error, or the share of wrong labels.
        """
        owner = type(self).__name__
        unknown = set(kwargs) - set(inspect.signature(keras.Model.fit).parameters)
        expect(not unknown, owner, "arguments of keras.Model.fit", error=TypeError, unknown=sorted(unknown))
        x, y, weights = whole(owner, x, y, sample_weight, kwargs.get("steps_per_epoch"))
        expect(y is not None, owner, "labels", y=y)
        rule = "finite inputs of shape (samples, features)"
        good = isinstance(x, np.ndarray) and x.ndim == 2 and x.shape[1] > 0 and x.dtype.kind in "biuf"
        expect(good, owner, rule, shape=getattr(x, "shape", type(x)))
        x = x.astype("float32")
        expect(np.isfinite(x).all(), owner, rule, not_finite=int((~np.isfinite(x)).sum()))
        ids = None
        if self.num_classes is None:
            y = np.asarray(y, "float64")
            y = y[:, None] if y.ndim == 1 else y
            rule = f"labels of shape (samples, {self.num_targets})"
            expect(y.shape == (len(x), self.num_targets), owner, rule, shape=y.shape)
            expect(np.isfinite(y).all(), owner, "finite labels", not_finite=int((~np.isfinite(y)).sum()))
        else:
            ids = class_ids(owner, y, self.num_classes)
            y = np.eye(self.num_classes)[ids]
        weights = sample_weights(owner, len(x), weights, class_weight, ids)
        if not self.built:
            self.build(x.shape)
        loss = self._split(x, y, weights)
        history = keras.callbacks.History()
        history.set_model(self)
        history.on_train_begin()
        history.on_epoch_end(0, {"loss": loss})
        self.history = history
        return history

    def _split(self, x, y, weights):
        """Assign the best split; return its loss."""
        # Samples without a weight are no neighbors either.
        x, y, weights = (a[weights > 0] for a in (x, y, weights))
        score = _largest if self.num_classes and self.criterion == "misclassification" else _squares
        center = (weights @ y) / weights.sum()
        best, feature, threshold = -np.finfo("float64").max, 0, np.float32(0)
        for k in range(x.shape[1]):
            order = np.argsort(x[:, k], kind="stable")
            values, w = x[order, k], weights[order]
            # About the mean no digits are lost to it; counts of classes are counted as they are.
            sums = np.cumsum(w[:, None] * (y[order] if score is _largest else y[order] - center), axis=0)
            counts = np.cumsum(w)
            rest = counts[-1] - counts[:-1]
            found = score(sums[:-1], counts[:-1]) + score(sums[-1] - sums[:-1], rest)
            # A side that weighs no more than the rounding of the others has no mean.
            nothing = np.minimum(counts[:-1], rest) <= 1e-12 * counts[-1]
            found[nothing | (values[1:] <= values[:-1])] = -np.inf
            top = found.max(initial=-np.inf)
            # The first of splits that are equally good but for rounding, which differs with the order of the sums.
            if top > best + 1e-9 * np.abs(best):
                place = int(np.argmax(found >= top - 1e-9 * np.abs(top)))
                best, feature, threshold = top, k, _between(values[place], values[place + 1])
        left = x[:, feature] <= threshold
        sides = [side if weights[side].any() else slice(None) for side in (left, ~left)]
        means = [(weights[side] @ y[side]) / weights[side].sum() for side in sides]
        for variable, value in zip(
            (self.feature, self.threshold, self.left, self.right), (feature, threshold, *means), strict=True
        ):
            variable.assign(value)
        answer = np.where(left[:, None], *means)
        squares = ((answer - y) ** 2).mean(axis=1)
        wrong = squares if self.num_classes is None else answer.argmax(axis=1) != y.argmax(axis=1)
        return float(weights @ wrong / weights.sum())

    def compile_from_config(self, config):
        """Compile as before, without variables for an optimizer that `fit` does not use: no file has them."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def get_config(self):
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in ("num_classes", "criterion", "num_targets")},
        }


def _squares(sums, counts):
    """What a side takes off the squared error, and off the Gini index of one-hot rows."""
    return (sums**2).sum(axis=1) / np.maximum(counts, np.finfo("float64").tiny)


def _largest(sums, counts):
    """The weight of the labels that are right."""
    return sums.max(axis=1)


def _between(low, high):
    """Return a float32 t half way, with low <= t < high."""
    middle = np.float32((float(low) + float(high)) / 2)
    return middle if middle < high else low
