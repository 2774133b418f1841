"""Whether losses and metrics fit the last layer."""

import inspect

import keras

from keras_kicks._errors import expect
from keras_kicks.metrics.gaussian_mean import GaussianMean

_SPARSE, _ONE_HOT = "multiclass, labels as ids", "multiclass, one-hot labels"
_LABELS = {"binary", "multilabel"}
_FIXED, _LEARNED = "regression, fixed variance", "regression, learned variance"
_OF_NUMBERS = (
    *("meansquarederror", "rootmeansquarederror", "meanabsoluteerror", "meanabsolutepercentageerror"),
    *("meansquaredlogarithmicerror", "huber", "logcosh", "logcosherror", "pinball", "cosinesimilarity", "r2score"),
)
# Of probabilities, or of rates.
_NOT_OF_LOGITS = ("kldivergence", "dice", "tversky", "poisson", "circle", "ctc", "categoricalgeneralizedcrossentropy")
# The tasks of the losses and metrics that are known, their names without case and underscores.
TASKS = {
    **{name: {_FIXED} for name in _OF_NUMBERS},
    **{name: set() for name in _NOT_OF_LOGITS},
    "gaussiannll": {_LEARNED},
    "binarycrossentropy": _LABELS,
    "binaryfocalcrossentropy": _LABELS,
    "hinge": _LABELS,
    "squaredhinge": _LABELS,
    "sparsecategoricalcrossentropy": {_SPARSE},
    "categoricalcrossentropy": {_ONE_HOT},
    "categoricalfocalcrossentropy": {_ONE_HOT},
    "categoricalhinge": {_ONE_HOT},
    "labelsmoothingcrossentropy": {_SPARSE, _ONE_HOT},
    "accuracy": set(),  # Of predictions that are equal to the labels.
    "binaryaccuracy": _LABELS,
    "sparsecategoricalaccuracy": {_SPARSE},
    "sparsetopkcategoricalaccuracy": {_SPARSE},
    "categoricalaccuracy": {_ONE_HOT},
    "topkcategoricalaccuracy": {_ONE_HOT},
    "auc": _LABELS,
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
    name = _name(found)
    expect(_is_of(kind, name), owner, f"a loss of its task ({kind})", remedy, loss=name)
    logits = getattr(found, "from_logits", _default(found, "from_logits"))
    expect(logits is not False, owner, "a loss with from_logits=True, since it returns logits", remedy, loss=name)
    return found


def check_metrics(owner, task, metrics):
    """Return a user's metrics, "accuracy" as that of the task, or raise if one does not fit.

    A metric that is not known here is taken, unless it has a `from_logits` that is false or looks for probabilities
    above a threshold. Keras's metrics of numbers get the means of a learned variance.

    Args:
        owner: Name of the head's class.
        task: A `tasks.Task`.
        metrics: List of what `compile` takes.

    Raises:
        ValueError: expected a metric of the task; of logits.
    """
    return [_checked(owner, task, metric) for metric in metrics]


def _checked(owner, task, metric):
    if metric in ("accuracy", "acc"):
        own = [each for each in task.metrics() if each.name == "accuracy"]
        expect(own, owner, f"a metric of its task ({task.kind})", metric=metric)
        return own[0]
    found = keras.metrics.get(metric)
    name = _name(found)
    is_metric = isinstance(found, keras.metrics.Metric)
    if task.kind == _LEARNED and is_metric and _is_of(_FIXED, name) and not isinstance(found, GaussianMean):
        return GaussianMean(found)
    expect(_is_of(task.kind, name), owner, f"a metric of its task ({task.kind})", metric=name)
    if not task.kind.startswith("regression"):
        remedy = (
            "Give it from_logits=True or threshold=0, or evaluate predictive_model(model), which has probabilities."
        )
        expect(_takes_logits(found), owner, "a metric of logits, since it returns them", remedy, metric=name)
    return metric


def _takes_logits(metric):
    if not isinstance(metric, keras.metrics.Metric):
        return _default(metric, "from_logits") is not False and _default(metric, "threshold") != 0.5
    try:
        config = metric.get_config()
    except NotImplementedError:
        return True
    if "from_logits" in config:
        return bool(config["from_logits"])
    # Of confusion matrices: Keras has them of numbers in [0, 1] alone.
    return config.get("threshold") != 0.5 and not {"thresholds", "num_thresholds"} & set(config)


def _name(found):
    return getattr(found, "__name__", type(found).__name__)


def _is_of(kind, name):
    return kind in TASKS.get(name.lower().replace("_", ""), {kind})


def _default(function, argument):
    """Return the default of an argument of a function, None if it has none."""
    if not inspect.isfunction(function):
        return None
    parameter = inspect.signature(function).parameters.get(argument)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default
