"""How often a decoder is taught, in the course of training."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_number
from keras_kicks._layer_tree import parts_by_path

RATIO = "teacher_forcing_ratio"


class ScheduledSampling(keras.callbacks.Callback):
    """Lowers the probability with which decoders under scheduled sampling are fed labels, and not their own outputs.

    The probability at step i is

        "linear"            max(epsilon, k - c i)
        "exponential"       k^i
        "inverse_sigmoid"   k / (k + exp(i / k))

    or what a function of i returns. i is the number of updates that the optimizer has made, so that training which is
    resumed, or goes on in another `fit`, goes on in the schedule; or it is the epoch, as `fit` numbers it. With
    steps_per_execution=n the value of the first of n batches holds for all of them.

    All decoders in the model have the same probability. It is in the logs, as `teacher_forcing_ratio`: in the
    progress bar, in the history, and for callbacks that come later, such as TensorBoard.

    Args:
        schedule: "linear", "exponential", "inverse_sigmoid", or a function from an integer >= 0 to a probability.
        k: The probability at first, in [epsilon, 1], if linear; its base, in (0, 1), if exponential; the speed of
            convergence, >= 1, if inverse sigmoid: the probability has fallen to a half after k ln k steps. None for a
            function.
        c: Slope of the linear schedule, > 0.
        epsilon: Least probability of the linear schedule, in [0, 1); 0 by default.
        update_freq: "batch" to count updates, or "epoch" to count epochs.

    Raises:
        TypeError: `k`, `c`, `epsilon` or the value of a function is no number.
        ValueError: expected a schedule of the above, and for it no other arguments than its own, in their ranges;
            update_freq to be "batch" or "epoch"; when training begins, a decoder with scheduled_sampling, and to count
            updates an optimizer; in training, a function whose values are in [0, 1].

    Source:
        Bengio et al. 2015, arXiv:1506.03099, section 2.4.

    Example:
        >>> schedule = ScheduledSampling("inverse_sigmoid", k=100.0)
        >>> [round(schedule.probability(i), 2) for i in (0, 461, 1000)]
        [0.99, 0.5, 0.0]
    """

    def __init__(self, schedule, k=None, c=None, epsilon=None, update_freq="batch"):
        super().__init__()
        owner = type(self).__name__
        given = {name: value for name, value in (("k", k), ("c", c), ("epsilon", epsilon)) if value is not None}
        if not callable(schedule):
            expect_choice(owner, ("linear", "exponential", "inverse_sigmoid"), schedule=schedule)
        wanted = {"linear": {"k", "c"}, "exponential": {"k"}, "inverse_sigmoid": {"k"}}
        wanted = set() if callable(schedule) else wanted[schedule]
        allowed = wanted | ({"epsilon"} if schedule == "linear" else set())
        rule = f"{' and '.join(sorted(wanted)) or 'neither k, c nor epsilon'} for this schedule"
        expect(wanted <= set(given) <= allowed, owner, rule, schedule=schedule, **given)
        expect_number(owner, **given)
        epsilon = epsilon or 0
        if schedule == "linear":
            expect(0 <= epsilon < 1, owner, "0 <= epsilon < 1", epsilon=epsilon)
            expect(epsilon <= k <= 1, owner, "epsilon <= k <= 1", k=k, epsilon=epsilon)
            expect(c > 0, owner, "c > 0", c=c)
        elif schedule == "exponential":
            expect(0 < k < 1, owner, "0 < k < 1", k=k)
        elif schedule == "inverse_sigmoid":
            expect(k >= 1, owner, "k >= 1", k=k)
        expect_choice(owner, ("batch", "epoch"), update_freq=update_freq)
        self.schedule = schedule
        self.k, self.c, self.epsilon = k, c, epsilon
        self.update_freq = update_freq
        self._decoders = []
        self._latest = None

    def probability(self, i):
        """Return the probability of the label after `i` updates or epochs."""
        if self.schedule == "linear":
            return max(self.epsilon, self.k - self.c * i)
        if self.schedule == "exponential":
            return self.k**i
        if self.schedule == "inverse_sigmoid":
            # Divided by exp(i / k), which overflows.
            decayed = self.k * math.exp(-i / self.k)
            return decayed / (decayed + 1.0)
        value = self.schedule(i)
        owner = type(self).__name__
        expect_number(owner, "Return one from the schedule.", probability=value)
        expect(0 <= value <= 1, owner, "a schedule with values in [0, 1]", step=i, probability=value)
        return float(value)

    def on_train_begin(self, logs=None):
        """Find the decoders."""
        owner = type(self).__name__
        # By what they have, since callbacks do not depend on one class of decoders.
        parts = parts_by_path(self.model).values()
        self._decoders = [part for part in parts if getattr(part, RATIO, None) is not None]
        rule, remedy = "a model with a decoder under scheduled sampling", 'Pass it scheduled_sampling="argmax".'
        expect(len(self._decoders) > 0, owner, rule, remedy, model=self.model.name)
        counts = self.update_freq == "epoch" or self.model.optimizer is not None
        expect(counts, owner, "an optimizer to count updates", 'Pass update_freq="epoch".', optimizer=None)

    def on_epoch_begin(self, epoch, logs=None):
        """Set the probability of an epoch."""
        if self.update_freq == "epoch":
            self._assign(self.probability(epoch))

    def on_train_batch_begin(self, batch, logs=None):
        """Set the probability of a batch."""
        if self.update_freq == "batch":
            self._sync()
            self._assign(self.probability(int(ops.convert_to_numpy(self.model.optimizer.iterations))))

    def on_train_batch_end(self, batch, logs=None):
        """Add the probability to the logs."""
        self._log(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Add the probability of the last batch to the logs."""
        self._log(logs)

    def on_train_end(self, logs=None):
        """Let the decoders go."""
        self._decoders = []

    def _assign(self, value):
        self._sync()
        for decoder in self._decoders:
            getattr(decoder, RATIO).assign(value)
        self._latest = value

    def _log(self, logs):
        if logs is not None:
            logs[RATIO] = self._latest

    def _sync(self):
        """Have JAX hand over the state that it keeps to itself during an epoch, and take it back changed."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
