"""The rounds of boosting: one learner after the other."""

import keras
import numpy as np

from keras_kicks._errors import expect
from keras_kicks._seeds import numpy_seed
from keras_kicks.models.boosting import gradient, r2, samme, samme_r
from keras_kicks.models.boosting.class_labels import class_ids
from keras_kicks.models.boosting.data import sample_weights

# The algorithms for classes.
CLASSIFIERS = ("samme", "samme.r")
# What weighs the samples, what adds the members up, and the same within a model.
ALGORITHMS = {
    "samme": (samme.Samme, samme.Votes, samme.combine),
    "samme.r": (samme_r.SammeR, samme_r.Scores, samme_r.combine),
    "r2": (r2.R2, r2.Medians, r2.combine),
    "gradient": (gradient.Gradient, gradient.Sum, gradient.combine),
}


class Rounds:
    """What goes from one round to the next.

    Args:
        ensemble: The `Boosting` model, built.
        learner: Its `WeakLearner`.
        outputs: Shape of a learner's output for one sample.
        data: Inputs, labels and sample weights of training, whole.
        validation: The same to validate with, or None.
        class_weight: None or a dict of weights by class id.
        weighs: Whether the learner's `fit` takes sample weights.
        fitting: Batch size, epochs and order of the learner's `fit`.
    """

    def __init__(self, ensemble, learner, outputs, data, validation, class_weight, weighs, fitting):
        self._ensemble, self._learner, self._outputs, self._owner = ensemble, learner, outputs, type(ensemble).__name__
        self._x, self._y, weights = data
        algorithm, running, _ = ALGORITHMS[ensemble.algorithm]
        labels, self._weights = self._labelled(*data, class_weight)
        self._labels = labels
        self._algorithm = algorithm(self._owner, labels, self._weights, outputs, ensemble)
        self._given = weights is not None or class_weight is not None
        start = self._first()
        self._running = running(start, len(self._weights))
        self._validation = None
        if validation is not None:
            self._validation = (validation[0], *self._labelled(*validation, None))
            self._validation_running = running(start, len(self._validation[2]))
        self._fitting = fitting
        self._weighs = weighs and not ensemble.resample
        needed = ensemble.algorithm != "gradient" or self._given
        remedy = "Give its fit the argument, or pass resample=True for rounds that draw the samples by their weights."
        possible, kind = weighs or ensemble.resample or not needed, type(learner.model).__name__
        expect(possible, self._owner, "a learner whose fit takes sample_weight", remedy, learner=kind)

    def _labelled(self, x, y, sample_weight, class_weight):
        """Return labels as the algorithm takes them, and a weight for each sample."""
        ids = None
        if self._ensemble.algorithm in CLASSIFIERS:
            ids = class_ids(self._owner, y, self._outputs[-1])
        labels = ids if ids is not None else self._numbers(y)
        return labels, sample_weights(self._owner, len(y), sample_weight, class_weight, ids)

    def _numbers(self, y):
        """Return labels in the shape of the learner's outputs."""
        rule = "labels in the shape of the learner's outputs"
        expect(y.dtype.kind in "biuf", self._owner, "numbers as labels", dtype=str(y.dtype))
        shape = (len(y), *self._outputs)
        expect(y.size == np.prod(shape), self._owner, rule, labels=y.shape, outputs=shape)
        bad = int((~np.isfinite(y)).sum())
        expect(bad == 0, self._owner, "finite labels", "Leave these samples out.", not_finite=bad)
        return y.reshape(shape).astype("float64")

    def _first(self):
        """Return what the sum starts from: what the members were trained for, where there are some."""
        members = self._ensemble.members
        if members.size() == 0:
            members.start.assign(self._algorithm.start)
        elif self._ensemble.algorithm == "gradient":
            self._algorithm.begin(np.array(keras.ops.convert_to_numpy(members.start), "float64"))
        return np.array(keras.ops.convert_to_numpy(members.start), "float64")

    def replay(self):
        """Go through the rounds that were run before, whose members are there."""
        for values, weight in zip(self._ensemble.members.read(), self._ensemble.estimator_weights, strict=True):
            self._learner.load(values)
            self._follow(self._learner.outputs(self._x), float(weight))

    def run(self, place):
        """Run a round; return what it found and why it is the last, or None. Nothing is kept of a learner of no use."""
        rng = np.random.default_rng([numpy_seed(self._ensemble.seed), place])
        self._learner.begin(int(rng.integers(2**31)), self._x)
        used = self._drawn(rng)
        self._fit(used, rng, place)
        outputs = self._learner.outputs(self._x)
        self._expect_finite(outputs, place)
        weight, error, reason = self._algorithm.judge(outputs, used)
        if weight is None:
            remedy = "Take a stronger learner, or train it for longer: more epochs or a higher learning rate."
            rule = "a first learner that is of use"
            expect(place > 0, self._owner, rule, remedy, weighted_error=error, reason=reason)
            return None, reason
        weight = float(np.asarray(weight, self._ensemble.members.start.dtype))
        logs = {"estimator_weight": weight, "estimator_error": error}
        loss = getattr(self._algorithm, "loss", None)
        self._follow(outputs, weight, loss, logs)
        self._ensemble.members.write(place, self._learner.values(), weight, error)
        return logs, reason

    def _drawn(self, rng):
        """Return the samples of this round, or None for all."""
        count, ensemble = len(self._weights), self._ensemble
        if ensemble.resample:
            return rng.choice(count, count, p=self._algorithm.w / self._algorithm.w.sum())
        if ensemble.subsample < 1:
            return np.sort(rng.choice(count, max(1, int(ensemble.subsample * count)), replace=False))
        return None

    def _fit(self, used, rng, place):
        targets, w = self._algorithm.targets(), self._algorithm.w
        weighted = self._weighs and (self._given or targets is None)
        # Of the mean 1: a loss in Keras is not divided by the sum of the weights.
        weights, y = w / w.mean() if weighted else None, self._y if targets is None else targets
        losses = self._learner.fit(self._x, y, weights, used, rng, **self._fitting)
        finite = bool(np.isfinite(np.asarray(losses, "float64")).all())
        remedy = "Lower the learning rate of its optimizer, or clip its gradients."
        expect(finite, self._owner, "a finite loss of the learner", remedy, loss=losses, round=place)

    def _expect_finite(self, outputs, place):
        shape = (len(self._weights), *self._outputs)
        expect(outputs.shape == shape, self._owner, "an output for each sample", outputs=outputs.shape, expected=shape)
        remedy = "Lower the learning rate of its optimizer, and look for NaN in the inputs."
        bad = int((~np.isfinite(outputs)).sum())
        expect(bad == 0, self._owner, "finite outputs of the learner", remedy, not_finite=bad, round=place)

    def _follow(self, outputs, weight, loss=None, logs=None):
        """Take a member in; with `logs`, put the errors of the ensemble into them."""
        self._running.add(outputs, weight)
        if logs is not None:
            logs["error"] = self._running.score(self._labels, self._weights, loss)
        if self._validation is not None:
            x, labels, w = self._validation
            self._validation_running.add(self._learner.outputs(x), weight)
            if logs is not None:
                logs["val_error"] = self._validation_running.score(labels, w, loss)
        self._algorithm.follow(outputs, weight)
