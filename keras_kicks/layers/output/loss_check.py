"""Whether a loss fits the last layer."""

import inspect

import keras

from keras_kicks._errors import expect

_SPARSE, _ONE_HOT = "multiclass, labels as ids", "multiclass, one-hot labels"
_LABELS = {"binary", "multilabel"}
_NUMBERS = ("meansquarederror", "meanabsoluteerror", "meanabsolutepercentageerror", "huber", "logcosh", "pinball")
# The tasks of the losses that are known, their names without case and underscores.
TASKS = {
    **{name: {"regression, fixed variance"} for name in _NUMBERS},
    "gaussiannll": {"regression, learned variance"},
    "binarycrossentropy": _LABELS,
    "binaryfocalcrossentropy": _LABELS,
    "sparsecategoricalcrossentropy": {_SPARSE},
    "categoricalcrossentropy": {_ONE_HOT},
    "categoricalfocalcrossentropy": {_ONE_HOT},
    "labelsmoothingcrossentropy": {_SPARSE, _ONE_HOT},
    "kldivergence": set(),  # Of probabilities.
}


def check_loss(owner, kind, loss):
    """Return a user's loss as `keras.losses.get` does, or raise if it does not fit.

    A loss that is not known here is taken, unless it has a `from_logits` that is false.

    Args:
        owner: Name of the head's class.
        kind: Name of its task, as in `TASKS`.
        loss: What `compile` takes.

    Raises:
        ValueError: expected a loss with from_logits=True; a loss of the task.
    """
    remedy = "Leave the loss out to get the one that fits."
    found = keras.losses.get(loss)
    name = getattr(found, "__name__", type(found).__name__)
    logits = getattr(found, "from_logits", None)
    if inspect.isfunction(found) and "from_logits" in inspect.signature(found).parameters:
        logits = inspect.signature(found).parameters["from_logits"].default
    tasks = TASKS.get(name.lower().replace("_", ""), {kind})
    expect(kind in tasks, owner, f"a loss of its task ({kind})", remedy, loss=name)
    expect(logits is not False, owner, "a loss with from_logits=True, since it returns logits", remedy, loss=name)
    return found
