"""What members predict by themselves, and of samples that they have not seen."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.models.bagging.counted_data import are_arrays, join, sample_count, split


class _Predictor(keras.Model):
    """Predicts, for its `predict`, what a function of a batch says."""

    def __init__(self, function, dtype):
        super().__init__(name="predictor", dtype=dtype)
        self.autocast = False  # Members cast what they take.
        self.function = function
        self.built = True

    def call(self, inputs):
        return self.function(inputs)


def _predictor(bagging, name, function):
    """Return a predictor, the same each time, so that its graph is made once."""
    predictors = bagging._hidden.predictors
    if name not in predictors:
        predictors[name] = _Predictor(function, bagging.dtype_policy)
    return predictors[name]


def member_outputs(bagging, x, batch_size):
    """Return the outputs of each member: arrays of shape (members, samples, ...)."""

    def outputs(inputs):
        ran = bagging.member_weights.run(split(inputs)[0])
        return ran.map(lambda output: ops.moveaxis(output, 0, 1))

    found = _predictor(bagging, "members", outputs).predict(x, batch_size=batch_size, verbose=0)
    return keras.tree.map_structure(lambda output: np.moveaxis(output, 1, 0), found)


def out_of_bag_outputs(bagging, x, batch_size):
    """Return the out-of-bag predictions, and the number of members that made each."""
    owner = type(bagging).__name__
    expect(bagging.bootstrap is not False, owner, "a bootstrap", "All members saw all samples.", bootstrap=False)
    if are_arrays(x):
        drawn, samples = bagging.samples_drawn(), sample_count(owner, x)
        expect(drawn > 0, owner, "a fit on arrays before", "Call fit, or pass the dataset that it was given.", drawn=0)
        rule, remedy = "as many samples as in fit", "Pass the same arrays in the same order."
        expect(samples >= drawn, owner, rule, remedy, samples=samples, drawn=drawn)
        x = join(x, bagging._counts_of_places(samples, drawn))
    else:
        x = bagging._with_counts(x)

    def outputs(inputs):
        x, counts = split(inputs)
        unseen = ops.transpose(ops.equal(counts, 0))
        ran = bagging.member_weights.run(x)
        combined = ran.map(lambda output: bagging._combined(output, unseen))
        return {"combined": combined, "members": ops.sum(ops.cast(unseen, "int32"), axis=0)}

    found = _predictor(bagging, "out_of_bag", outputs).predict(x, batch_size=batch_size, verbose=0)
    return found["combined"], found["members"]


def out_of_bag_results(bagging, x, y, sample_weight, batch_size):
    """Return the loss and the metrics of the out-of-bag predictions of arrays."""
    owner = type(bagging).__name__
    expect(are_arrays(x), owner, "arrays to evaluate", error=TypeError, x=type(x).__name__)
    predicted, members = out_of_bag_outputs(bagging, x, batch_size)
    remedy = "Take more members."
    expect(members.any(), owner, "a sample that not all members saw", remedy, samples=len(members))

    def kept(part):
        return None if part is None else ops.convert_to_tensor(np.asarray(part)[members > 0])

    x, y, predicted, sample_weight = keras.tree.map_structure(kept, (x, y, predicted, sample_weight))
    bagging.reset_metrics()
    # Within a scope there are no penalties, which a model keeps from its last call; what metrics count is taken out.
    with keras.StatelessScope() as scope:
        loss = bagging.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=sample_weight, training=False)
    for variable in (variable for metric in bagging.metrics for variable in metric.variables):
        counted = scope.get_current_value(variable)
        if counted is not None:
            variable.assign(counted)
    results = bagging.compute_metrics(x, y, predicted, sample_weight=sample_weight)
    results = {name: float(value) for name, value in {**results, "loss": loss}.items()}
    bagging.reset_metrics()
    return results
