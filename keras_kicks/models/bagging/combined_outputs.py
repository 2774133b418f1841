"""One output out of those of several members."""

import keras
from keras import ops

# Shares of votes stay this far from 0 and 1 where they become logits.
_SHARE = 1e-7


def combined(outputs, combine, from_logits, weights=None):
    """Return the mean, or the shares of votes, of the outputs of members, as an output of the same kind.

    A member votes for its largest output; with one output, for the class 1 if it is above 1/2, or above 0 if it is a
    logit. Of equal outputs the first counts. Logits are averaged as probabilities, and are logits again.

    Args:
        outputs: Tensor of shape (members, samples, ..., classes).
        combine: "mean" or "vote".
        from_logits: Whether outputs are logits of classes.
        weights: None, or a tensor of shape (members, samples) that says how much each member counts.

    Returns:
        Tensor of shape (samples, ..., classes) in the dtype of the outputs. Where all weights are zero it is NaN.
    """
    dtype = outputs.dtype
    outputs = ops.cast(outputs, keras.backend.result_type(dtype, "float32"))
    classes = outputs.shape[-1] if len(outputs.shape) > 2 else 1
    if combine == "vote":
        if classes == 1:
            votes = ops.cast(outputs > (0.0 if from_logits else 0.5), "float32")
        else:
            votes = ops.one_hot(ops.argmax(outputs, axis=-1), classes, dtype="float32")
        shares = _mean(votes, weights)
        if from_logits:
            clipped = ops.clip(shares, _SHARE, 1 - _SHARE)
            shares = ops.log(clipped) - (ops.log1p(-clipped) if classes == 1 else 0.0)
        return ops.cast(shares, dtype)
    if not from_logits:
        return ops.cast(_mean(outputs, weights), dtype)
    if classes == 1:
        return ops.cast(
            _log_mean(ops.log_sigmoid(outputs), weights) - _log_mean(ops.log_sigmoid(-outputs), weights), dtype
        )
    return ops.cast(_log_mean(ops.log_softmax(outputs, axis=-1), weights), dtype)


def _mean(values, weights):
    if weights is None:
        return ops.mean(values, axis=0)
    weights = ops.cast(_spread(weights, values), values.dtype)
    return ops.sum(ops.where(weights > 0, weights * values, 0.0), axis=0) / ops.sum(weights, axis=0)


def _log_mean(logs, weights):
    """Return log(mean(exp(logs))) over members."""
    largest = ops.max(logs, axis=0, keepdims=True)
    return ops.log(_mean(ops.exp(logs - largest), weights)) + ops.squeeze(largest, axis=0)


def _spread(weights, values):
    shape = ops.shape(weights)
    return ops.reshape(weights, (*shape, *[1] * (len(values.shape) - 2)))
