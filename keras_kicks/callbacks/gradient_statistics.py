"""What is kept of the gradients of a step, so that it fits a row of numbers for each variable."""

import dataclasses
import math

import numpy as np

# As many as TensorBoard itself makes.
BUCKETS = 30
# Elements that a histogram is made of, at most; of a larger variable these are taken at equal distances.
ELEMENTS = 2**15
# Elements up to which variables of one size are treated together.
SMALL = 2**15
# A row: the numbers of this list, then the counts of the histogram, the last one of what is not finite.
HEAD = ("has", "elements", "low", "high", "gradient", "weight", "update")
WIDTH = len(HEAD) + BUCKETS + 1


def rows(gradients, old, new, elements, histograms=True):
    """Return the statistics of variables, a float32 tensor of shape (WIDTH,) for each.

    Small variables of the same size share their operations, which cost more than what they compute.

    Args:
        gradients: Dense gradients.
        old: Values of the variables before the step.
        new: Values after it.
        elements: For each the number of elements of the gradient; None for all of them.
        histograms: Whether to count, or to leave zeros.
    """
    import tensorflow as tf

    groups = {}
    for i, value in enumerate(new):
        size = math.prod(value.shape)  # That of a gradient may be unknown.
        groups.setdefault((size, None if size <= SMALL else i), []).append(i)
    found = {}
    for (size, _), group in groups.items():
        parts = [[tf.reshape(tf.cast(x[i], tf.float32), [size]) for i in group] for x in (gradients, old, new)]
        counted = [tf.cast(size if elements[i] is None else elements[i], tf.float32) for i in group]
        if size:
            group_rows = _group([part[0][None] if len(part) == 1 else tf.stack(part) for part in parts], histograms)
            found.update({i: tf.concat([[1.0, n], r], 0) for i, n, r in zip(group, counted, group_rows, strict=True)})
        else:
            found.update({i: tf.concat([[1.0], tf.zeros(WIDTH - 1)], 0) for i in group})
    return [found[i] for i in range(len(new))]


def _group(parts, histograms):
    """Return all but the first two numbers of the rows of variables of one size, from tensors of shape (n, size)."""
    import tensorflow as tf

    gradient, old, new = parts
    low, high = tf.reduce_min(gradient, axis=1), tf.reduce_max(gradient, axis=1)
    # Squares of a gradient that vanishes would be 0, of one that explodes infinite.
    largest = tf.maximum(high, -low)
    scale = tf.where(largest > 0, largest, tf.ones_like(largest))
    norms = [scale * _norm(gradient / scale[:, None]), _norm(old), _norm(new - old)]
    count, size = gradient.shape
    counts = tf.zeros((count, BUCKETS + 1))
    if histograms:
        counts = _counts(gradient[:, :: _stride(size)], low[:, None], high[:, None])
    return tf.unstack(tf.concat([tf.stack([low, high, *norms], axis=1), counts], axis=1))


def _norm(x):
    """Return the norms of rows."""
    import tensorflow as tf

    if x.shape[0] == 1:
        return tf.sqrt(2 * tf.nn.l2_loss(x))[None]  # Without a tensor of squares.
    return tf.sqrt(tf.reduce_sum(tf.square(x), axis=1))


def _stride(size):
    """Return a distance between elements that meets all rows and columns of a matrix alike."""
    stride = -(-size // ELEMENTS)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


def _counts(values, low, high):
    import tensorflow as tf

    count = values.shape[0]
    finite = tf.math.is_finite(values)
    # The halves of numbers whose difference is beyond float32 are not.
    share = (values / 2 - low / 2) / (high / 2 - low / 2)
    share = tf.where(finite & (low < high), share, tf.ones_like(share))
    place = tf.where(finite, tf.minimum(tf.cast(share * BUCKETS, tf.int32), BUCKETS - 1), BUCKETS)
    place += (BUCKETS + 1) * tf.range(count)[:, None]
    # Keras's and TensorFlow's counting of integers does not compile with every model.
    counts = tf.math.unsorted_segment_sum(tf.ones_like(place), place, count * (BUCKETS + 1))
    return tf.cast(tf.reshape(counts, (count, BUCKETS + 1)), tf.float32)


@dataclasses.dataclass(frozen=True)
class VariableStatistics:
    """A row, decoded.

    Attributes:
        elements: Number of elements of the gradient.
        low, high: Its smallest and its largest element.
        gradient_norm, weight_norm, update_norm: L2 norms; of the weight as it was before the step. Infinite where an
            element of the gradient is not finite.
        counts: Of the histogram between low and high, and last of what is not finite.
    """

    elements: float
    low: float
    high: float
    gradient_norm: float
    weight_norm: float
    update_norm: float
    counts: np.ndarray

    @property
    def histogram(self):
        """float64 array of shape (BUCKETS, 3), left edge, right edge and count; None if there is none."""
        finite = math.isfinite(self.low) and math.isfinite(self.high) and not self.counts[-1]
        if not finite or not self.counts.any():
            return None
        edges = np.linspace(self.low, self.high, BUCKETS + 1)
        return np.stack([edges[:-1], edges[1:], self.counts[:-1].astype("float64")], axis=1)


def decoded(numbers):
    """Return what a row says, or None if its variable had no gradient."""
    has, elements, low, high, gradient, weight, update = numbers[: len(HEAD)].tolist()
    if not has:
        return None
    gradient = gradient if math.isfinite(gradient) else math.inf
    return VariableStatistics(elements, low, high, gradient, weight, update, numbers[len(HEAD) :])
