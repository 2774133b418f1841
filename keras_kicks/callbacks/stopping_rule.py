"""What all rules of early stopping have in common, and the rule of patience."""

import math
import typing

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number


class StoppingCheck(typing.NamedTuple):
    """What a check of `EarlyStopping` has found.

    Args:
        epoch: The epoch, from 0, as `fit` numbers it.
        step: Batches trained on since this training began.
        passes: Passes over the training data, with the part of one; None where their length is unknown.
        values: Value by the name of a metric; of training, the mean since the last check.
    """

    epoch: int
    step: int
    passes: float | None
    values: dict

    @property
    def place(self):
        """Where it was, in words."""
        return f"epoch {self.epoch + 1}, step {self.step}"


class StoppingRule:
    """A rule that says after each check whether to stop; it knows the best value of a metric and where that was.

    A value that is NaN or infinite is never the best, and counts as worse than any number.

    A rule of one's own overrides `verdict`, and `start` if it has a state. The state must follow from the values that
    it has seen since `start` and from nothing else: training that is resumed shows it these again.

    Args:
        monitor: Name of the metric, as in the logs of `fit`.
        mode: "min" if less is better, "max" if more is; None for "min" where the name ends in "loss" or "error".
        min_delta: Least change that counts as an improvement, >= 0.

    Attributes:
        best: The best value, None before there is one.
        best_check: The check that found it.
        improved: Whether it was in the last check.
        values: All values of `monitor`; in mode "max" with the sign changed, infinite where they are not finite.
    """

    def __init__(self, monitor="val_loss", mode=None, min_delta=0.0):
        owner = type(self).__name__
        expect(isinstance(monitor, str), owner, "a name for monitor", error=TypeError, monitor=monitor)
        if mode is None:
            known = monitor.endswith(("loss", "error"))
            expect(known, owner, 'mode="min" or mode="max" for this metric', monitor=monitor, mode=mode)
            mode = "min"
        expect_choice(owner, ("min", "max"), mode=mode)
        expect_number(owner, min_delta=min_delta)
        expect(min_delta >= 0, owner, "min_delta >= 0", min_delta=min_delta)
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.start()

    @property
    def label(self):
        """What texts and tags call it."""
        return type(self).__name__

    @property
    def monitors(self):
        """Names of all metrics that it looks at."""
        return (self.monitor,)

    def start(self):
        """Forget everything."""
        self.best = self.best_check = None
        self.improved = False
        self.values = []

    def check(self, check):
        """Return whether to stop.

        Args:
            check: A `StoppingCheck`.
        """
        value = check.values[self.monitor]
        error = self._error(value)
        self.values.append(error)
        self.improved = math.isfinite(error) and (self.best is None or error + self.min_delta < self._error(self.best))
        if self.improved:
            self.best, self.best_check = value, check
        return self.verdict(check.values)

    def verdict(self, logs):
        """Return whether to stop, `values` and `best` being up to date.

        Args:
            logs: The values of the check, by metric.
        """
        raise NotImplementedError

    def curves(self):
        """Return the numbers that it compares with its limits after this check, by name."""
        return {}

    def why(self):
        """Return what made it stop, as a part of a sentence."""
        return f"{self.monitor} is {self._shown(self.values[-1])}, its best {self._best_shown()}"

    def _error(self, value):
        """Return a value of which less is better."""
        error = value if self.mode == "min" else -value
        return error if math.isfinite(error) else math.inf

    def _shown(self, error):
        return "not finite" if math.isinf(error) else f"{error if self.mode == 'min' else -error:.6g}"

    def _best_shown(self):
        return "none" if self.best is None else f"{self.best:.6g} ({self.best_check.place})"


class Patience(StoppingRule):
    """Stops after a number of checks in a row without an improvement: the rule of `keras.callbacks.EarlyStopping`.

    Args:
        patience: Checks without an improvement, >= 0; 0 and 1 both stop at the first.
        monitor: Name of the metric, as in the logs of `fit`.
        mode: "min" if less is better, "max" if more is; None for "min" where the name ends in "loss" or "error".
        min_delta: Least change that counts as an improvement, >= 0.
        baseline: An improvement counts only if it beats this too, by `min_delta`; None for none.
    """

    def __init__(self, patience=10, monitor="val_loss", mode=None, min_delta=0.0, baseline=None):
        owner = type(self).__name__
        expect_integer(owner, patience=patience)
        expect(patience >= 0, owner, "patience >= 0", patience=patience)
        if baseline is not None:
            expect_number(owner, baseline=baseline)
        self.patience, self.baseline = patience, baseline
        super().__init__(monitor, mode, min_delta)

    @property
    def label(self):
        """What texts and tags call it."""
        return f"Patience_{self.patience}"

    def start(self):
        """Forget everything."""
        super().start()
        self.wait = 0

    def verdict(self, logs):
        """Return whether patience is over."""
        self.wait += 1
        if not self.improved:
            return self.wait >= self.patience
        if self.baseline is None or self.values[-1] + self.min_delta < self._error(self.baseline):
            self.wait = 0
        return False

    def curves(self):
        """Return the checks since the last improvement."""
        return {"wait": self.wait}

    def why(self):
        """Return for how long there was no improvement."""
        return f"{super().why()}: {self.wait} checks without an improvement"
