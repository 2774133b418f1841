"""Cross-entropy with smoothed labels."""

import random

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_seed
from keras_kicks.losses.smooth_labels import check_classes, check_smoothing, simplex
from keras_kicks.ops.class_ids import check_class_ids
from keras_kicks.ops.keras_mask import set_mask
from keras_kicks.ops.random import content_seed, uniform_from
from keras_kicks.ops.smoothed_crossentropy import smoothed_crossentropy


@keras.saving.register_keras_serializable(package="keras_kicks")
class LabelSmoothingCrossentropy(keras.losses.Loss):
    """Cross-entropy with labels mixed with noise, from class ids or one-hot labels.

        loss = -sum_k q_k log p_k,   q = (1 - alpha) onehot(y) + alpha xi

    with xi = 1 / classes ("uniform"), the frequency of each class ("prior"), or a point drawn for each sample from
    the uniform distribution on the simplex ("random", whose expectation is "uniform"). At the optimum of a single
    sample with uniform noise the logit of the label exceeds each other one by ln(((1 - alpha) + alpha / K) / (alpha /
    K)), K the classes.

    From class ids the one-hot matrix is never made. A loss has no state that Keras saves, so random noise is a
    function of the seed and the predictions: the same predictions get the same noise, compiled or not.

    Args:
        alpha: Share of the noise, in [0, 1).
        noise: "uniform", "prior" or "random".
        class_prior: Probability of each class, for noise="prior" alone: not negative, with the sum 1.
        from_logits: Whether predictions are logits; otherwise probabilities.
        ignore_class: Class id whose samples do not count, such as -1 or 255; for class ids alone.
        seed: None or an integer, for noise="random".
        axis: The class axis.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`; float32 where that is narrower.

    Call arguments:
        y_true: Class ids, of the shape of `y_pred` without the class axis (or with 1 in its place), or one-hot
            labels of the shape of `y_pred`.
        y_pred: Logits or probabilities, 2 classes or more.
        sample_weight: As in `keras.losses.Loss`.

    Returns:
        Scalar, or the loss of each sample for reduction=None.

    Raises:
        TypeError: `alpha` is no number, `seed`, `ignore_class` or `axis` no integer.
        ValueError: expected 0 <= alpha < 1; a known noise; class_prior with noise="prior" alone, not negative, with
            the sum 1 and an entry for each class; labels that have the shape of the predictions or lack just the class
            axis; predictions that have it; class ids where ignore_class is given; 2 classes or more.
        tf.errors.InvalidArgumentError: A class id outside [0, classes) that is not `ignore_class` (TensorFlow, unless
            compiled by XLA). Compiled, and on other backends, the loss is NaN.

    Masking:
        The mask of `y_pred` excludes its samples.

    Source:
        Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision",
        2016, arXiv:1512.00567 ("uniform" and "prior").

    Example:
        >>> import numpy as np
        >>> loss = LabelSmoothingCrossentropy(alpha=0.2)
        >>> round(float(loss(np.array([1]), np.array([[0.0, 2.0]]))), 4)  # ln(1 + e^-2) + 0.1 * 2
        0.3269
    """

    def __init__(
        self,
        alpha=0.1,
        noise="uniform",
        class_prior=None,
        from_logits=True,
        ignore_class=None,
        seed=None,
        axis=-1,
        reduction="sum_over_batch_size",
        name="label_smoothing_crossentropy",
        dtype=None,
    ):
        owner = type(self).__name__
        self.class_prior = check_smoothing(owner, alpha, noise, class_prior)
        expect_seed(owner, seed)
        expect_integer(owner, axis=axis)
        if ignore_class is not None:
            expect_integer(owner, ignore_class=ignore_class)
        dtype = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype
        super().__init__(name=name, reduction=reduction, dtype=keras.backend.result_type(dtype, "float32"))
        self.alpha = float(alpha)
        self.noise = noise
        self.from_logits = bool(from_logits)
        self.ignore_class = ignore_class
        self.seed = seed
        self.axis = int(axis)
        # Python's generator is the one that keras.utils.set_random_seed seeds for SeedGenerator too.
        self._noise_seed = seed if seed is not None else random.randrange(2**31)

    def call(self, y_true, y_pred):
        """Return the loss of each sample."""
        rank, owner = len(y_pred.shape), type(self).__name__
        has_axis = rank >= 2 and -rank <= self.axis < rank and self.axis % rank != 0
        expect(has_axis, owner, "predictions that have the class axis", axis=self.axis, y_pred=tuple(y_pred.shape))
        logits = y_pred if self.from_logits else ops.log(ops.maximum(y_pred, keras.config.epsilon()))
        logits = ops.moveaxis(logits, self.axis, -1)
        check_classes(owner, logits.shape[-1] or 0, self.class_prior)
        if self._holds_ids(y_true, y_pred):
            return self._from_ids(ops.reshape(y_true, ops.shape(logits)[:-1]), logits)
        expect(
            self.ignore_class is None,
            owner,
            "class ids where ignore_class is given",
            "Drop ignore_class, or pass class ids.",
            ignore_class=self.ignore_class,
            y_true=tuple(y_true.shape),
        )
        targets = (1 - self.alpha) * ops.moveaxis(y_true, self.axis, -1) + self.alpha * self._draw(logits)
        return -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)

    def _holds_ids(self, y_true, y_pred):
        """Whether the labels are class ids rather than one-hot; raise if they are neither."""
        labels, predictions = tuple(y_true.shape), tuple(y_pred.shape)
        axis = self.axis % len(predictions)
        without = predictions[:axis] + predictions[axis + 1 :]
        squeezed = predictions[:axis] + (1,) + predictions[axis + 1 :]
        ids = _may_equal(labels, without) or _may_equal(labels, squeezed)
        expect(
            ids or _may_equal(labels, predictions),
            type(self).__name__,
            "labels that have the shape of the predictions or lack just the class axis",
            y_true=labels,
            y_pred=predictions,
        )
        return ids

    def _from_ids(self, labels, logits):
        classes, shape = logits.shape[-1], ops.shape(labels)
        labels = ops.reshape(labels, (-1,))
        ids = ops.cast(labels, "int32")
        # A number that is no integer is no id either: it becomes one that is out of the range.
        ids = ops.where(ops.equal(ops.cast(ids, labels.dtype), labels), ids, classes)
        counted = None
        if self.ignore_class is not None:
            counted = ids != self.ignore_class
            ids = ops.where(counted, ids, 0)
        ids = check_class_ids(ids, classes, type(self).__name__)
        rows = ops.reshape(logits, (-1, classes))
        loss = smoothed_crossentropy(rows, ids, self._draw(rows), self.alpha)
        if counted is None:
            return ops.reshape(loss, shape)
        loss = ops.reshape(ops.where(counted, loss, 0.0), shape)
        return set_mask(loss, ops.reshape(counted, shape))

    def _draw(self, logits):
        """Noise that broadcasts against the logits."""
        classes = logits.shape[-1]
        if self.noise == "random":
            uniform = uniform_from(ops.shape(logits), self._noise_seed, content_seed(logits))
            return ops.cast(simplex(uniform), logits.dtype)
        prior = [1 / classes] * classes if self.noise == "uniform" else self.class_prior
        width = 1 if self.noise == "uniform" else classes
        return ops.reshape(ops.convert_to_tensor(prior[:width], dtype=logits.dtype), (1, width))

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "alpha": self.alpha,
            "noise": self.noise,
            "class_prior": self.class_prior,
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            "seed": self.seed,
            "axis": self.axis,
            "dtype": self.dtype,
        }
        return {**super().get_config(), **config}


def _may_equal(shape, other):
    """Whether two shapes of which some lengths are unknown can be the same."""
    return len(shape) == len(other) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, other, strict=True)
    )
