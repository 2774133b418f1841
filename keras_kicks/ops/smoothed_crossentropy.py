"""Cross-entropy between smoothed labels and logits, without the matrix of labels."""

import functools

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster


def smoothed_crossentropy(logits, ids, noise, alpha):
    """Return -sum_k q_k log softmax(logits)_k with q = (1 - alpha) onehot(id) + alpha noise, for each row.

    With sum(noise) = 1 this is logsumexp(z) - (1 - alpha) z_id - alpha sum(noise z), and its gradient
    softmax(z) - q: no one-hot row is needed for either.

    Args:
        logits: Shape (n, classes), floating.
        ids: Shape (n,), int32. A row is NaN where the id is not in [0, classes), so that a wrong label is never
            trained on unseen.
        noise: Shape (1, 1), (1, classes) or (n, classes), the dtype of `logits`.
        alpha: Share of the noise.

    Returns:
        Shape (n,).
    """
    if keras.backend.backend() == "torch":
        return _forward(logits, ids, noise, alpha)[0]
    return _kernel(alpha)(logits, ids, noise)


def smoothed_crossentropy_reference(logits, ids, noise, alpha):
    """The same from the definition: what `smoothed_crossentropy` is tested against."""
    classes = logits.shape[-1]
    targets = (1 - alpha) * ops.one_hot(ids, classes, dtype=logits.dtype) + alpha * noise
    loss = -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
    return loss * _nan_unless(ops.logical_and(ids >= 0, ids < classes), loss)


def _nan_unless(known, like):
    """A factor, for the gradient to be NaN where the value is."""
    return ops.cast(ops.where(known, 1.0, float("nan")), like.dtype)


def _forward(logits, ids, noise, alpha):
    known = ops.logical_and(ids >= 0, ids < logits.shape[-1])
    highest = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    log_sum = highest + ops.log(ops.sum(ops.exp(logits - highest), axis=-1, keepdims=True))
    column = ops.expand_dims(ops.where(known, ids, 0), axis=-1)
    target = ops.take_along_axis(logits, column, axis=-1)
    loss = log_sum - (1 - alpha) * target - alpha * ops.sum(noise * logits, axis=-1, keepdims=True)
    return ops.squeeze(loss, axis=-1) * _nan_unless(known, loss), log_sum


def _gradient(upstream, logits, log_sum, ids, noise, alpha):
    """The gradient in one loop: compiled, the comparison of labels and classes is never stored."""
    column, classes = ops.expand_dims(ids, axis=-1), logits.shape[-1]
    is_target = ops.equal(ops.expand_dims(ops.arange(classes, dtype="int32"), axis=0), column)
    known = ops.logical_and(column >= 0, column < classes)
    upstream = ops.where(known, ops.expand_dims(upstream, axis=-1), float("nan"))
    return upstream * (ops.exp(logits - log_sum) - alpha * noise - ops.where(is_target, 1.0 - alpha, 0.0))


def _gradient_by_scatter(upstream, logits, log_sum, ids, noise, alpha):
    """The gradient where nothing is compiled: the entry of the label is written into the rest."""
    known = ops.logical_and(ids >= 0, ids < logits.shape[-1])
    upstream = ops.where(known, upstream, float("nan"))
    rest = ops.expand_dims(upstream, axis=-1) * (ops.exp(logits - log_sum) - alpha * noise)
    ids = ops.where(known, ids, 0)
    entry = ops.squeeze(ops.take_along_axis(rest, ops.expand_dims(ids, axis=-1), axis=-1), axis=-1)
    places = ops.stack([ops.arange(ops.shape(ids)[0], dtype="int32"), ids], axis=-1)
    return ops.scatter_update(rest, places, entry - (1 - alpha) * upstream)


@functools.cache
def _kernel(alpha):
    @cluster
    def forward(logits, ids, noise):
        return _forward(logits, ids, noise, alpha)

    def in_one_loop(upstream, logits, log_sum, ids, noise):
        return _gradient(upstream, logits, log_sum, ids, noise, alpha)

    def by_scatter(upstream, logits, log_sum, ids, noise):
        return _gradient_by_scatter(upstream, logits, log_sum, ids, noise, alpha)

    backward = cluster(in_one_loop, by_scatter)

    def loss(logits, ids, noise):
        @ops.custom_gradient
        def of_logits(logits):
            values, log_sum = forward(logits, ids, noise)
            return values, lambda upstream: backward(upstream, logits, log_sum, ids, noise)

        return of_logits(logits)

    return loss
