"""The rules of Prechelt (1998) for early stopping."""

import math

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.callbacks.stopping_rule import StoppingRule

# As long as this, in checks, are the strips of the paper.
STRIP = 5


class GL(StoppingRule):
    """Stops when the generalization loss exceeds a limit.

        GL(t) = 100 (E_va(t) / E_opt(t) - 1) > alpha,    E_opt(t) = min over t' <= t of E_va(t')

    Args:
        alpha: The limit, in per cent, >= 0; 1 to 5 in the paper.
        monitor: Name of a validation error, which is never negative, as in the logs of `fit`.

    Source:
        Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998.
    """

    def __init__(self, alpha=5.0, monitor="val_loss"):
        expect_number(type(self).__name__, alpha=alpha)
        expect(alpha >= 0, type(self).__name__, "alpha >= 0", alpha=alpha)
        self.alpha = alpha
        super().__init__(monitor, "min")

    @property
    def label(self):
        """What texts and tags call it."""
        return f"{type(self).__name__}_{self.alpha:g}"

    def start(self):
        """Forget everything."""
        super().start()
        self.generalization_loss = 0.0

    def verdict(self, logs):
        """Return whether the generalization loss exceeds the limit."""
        error, best = self.values[-1], self.best
        remedy = "Take Patience or UP for a loss that may be negative."
        expect(error >= 0, type(self).__name__, f"{self.monitor} >= 0", remedy, **{self.monitor: error})
        if best is None or (best == 0 and error > 0):
            self.generalization_loss = math.inf
        else:
            self.generalization_loss = 100 * (error / best - 1) if error > best else 0.0
        return self.generalization_loss > self.alpha

    def curves(self):
        """Return the generalization loss."""
        return {"generalization_loss": self.generalization_loss}

    def why(self):
        """Return the generalization loss."""
        return f"{super().why()}: a generalization loss of {self.generalization_loss:.4g} %"


class LowProgress(StoppingRule):
    """Stops when the training error no longer falls: the paper adds it to each of the other rules.

        P_k(t) = 1000 (mean of E_tr in the last k checks / its minimum there - 1) < least

    It is looked at where a strip of k checks ends. E_tr is the mean of Keras's `loss` since the last check.

    Args:
        least: The limit, in per mille, > 0; 0.1 in the paper.
        strip: Length k of a strip in checks, >= 2.
        monitor: Name of a training error, which is never negative, as in the logs of `fit`.

    Source:
        Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998.
    """

    def __init__(self, least=0.1, strip=STRIP, monitor="loss"):
        expect_number(type(self).__name__, least=least)
        expect(least > 0, type(self).__name__, "least > 0", least=least)
        _expect_strip(type(self).__name__, strip)
        self.least, self.strip = least, strip
        super().__init__(monitor, "min")

    @property
    def label(self):
        """What texts and tags call it."""
        return f"LowProgress_{self.least:g}"

    def start(self):
        """Forget everything."""
        super().start()
        self.progress, self._stop = math.nan, False

    def verdict(self, logs):
        """Return whether there is less progress than the limit; between the ends of strips, what it was."""
        self.progress = progress(type(self).__name__, self.monitor, self.values, self.strip)
        if len(self.values) % self.strip == 0:
            self._stop = self.progress < self.least
        return self._stop

    def curves(self):
        """Return the progress."""
        return {"progress": self.progress}

    def why(self):
        """Return the progress."""
        return f"the progress of {self.monitor} in {self.strip} checks is {self.progress:.4g} per mille"


class PQ(GL):
    """Stops when the generalization loss is large against the progress of training.

        PQ(t) = GL(t) / P_k(t) > alpha
        P_k(t) = 1000 (mean of E_tr in the last k checks / its minimum there - 1)

    It is looked at where a strip of k checks ends. E_tr is the mean of Keras's `loss` since the last check.

    Args:
        alpha: The limit, >= 0; 0.5 to 3 in the paper.
        strip: Length k of a strip in checks, >= 2.
        monitor: Name of a validation error, which is never negative, as in the logs of `fit`.
        train_monitor: Name of a training error, likewise.

    Source:
        Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998.
    """

    def __init__(self, alpha=0.5, strip=STRIP, monitor="val_loss", train_monitor="loss"):
        owner = type(self).__name__
        _expect_strip(owner, strip)
        expect(
            isinstance(train_monitor, str),
            owner,
            "a name for train_monitor",
            "",
            TypeError,
            train_monitor=train_monitor,
        )
        self.strip, self.train_monitor = strip, train_monitor
        super().__init__(alpha, monitor)

    @property
    def monitors(self):
        """Names of all metrics that it looks at."""
        return self.monitor, self.train_monitor

    def start(self):
        """Forget everything."""
        super().start()
        self.progress = self.quotient = math.nan
        self._stop, self._training = False, []

    def verdict(self, logs):
        """Return whether the quotient exceeds the limit; between the ends of strips, what it was."""
        super().verdict(logs)
        self._training.append(logs[self.train_monitor])
        self.progress = progress(type(self).__name__, self.train_monitor, self._training, self.strip)
        if math.isnan(self.progress):
            return False
        loss = self.generalization_loss
        # No progress is infinitely little of it.
        self.quotient = 0.0 if loss == 0 else loss / self.progress if self.progress else math.inf
        if len(self.values) % self.strip == 0:
            self._stop = self.quotient > self.alpha
        return self._stop

    def curves(self):
        """Return generalization loss, progress and their quotient."""
        return {**super().curves(), "progress": self.progress, "progress_quotient": self.quotient}

    def why(self):
        """Return the quotient."""
        return f"{super().why()}, {self.quotient:.4g} times the progress of {self.progress:.4g} per mille"


class UP(StoppingRule):
    """Stops when the validation error has risen in successive strips.

    Compared are the errors where strips of k checks end: E_va(t) > E_va(t - k), `strips` times in a row.

    Args:
        strips: Number s of strips, >= 1; 2 to 8 in the paper.
        strip: Length k of a strip in checks, >= 1.
        monitor: Name of the metric, as in the logs of `fit`.
        mode: "min" if less is better, "max" if more is; None for "min" where the name ends in "loss" or "error".

    Source:
        Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998.
    """

    def __init__(self, strips=3, strip=STRIP, monitor="val_loss", mode=None):
        expect_integer(type(self).__name__, strips=strips)
        expect(strips >= 1, type(self).__name__, "strips >= 1", strips=strips)
        _expect_strip(type(self).__name__, strip, 1)
        self.strips, self.strip = strips, strip
        super().__init__(monitor, mode)

    @property
    def label(self):
        """What texts and tags call it."""
        return f"UP_{self.strips}"

    def start(self):
        """Forget everything."""
        super().start()
        self.rises = 0

    def verdict(self, logs):
        """Return whether there were enough rises; between the ends of strips, whether there had been."""
        ends = self.values[self.strip - 1 :: self.strip]
        if len(self.values) % self.strip == 0 and len(ends) > 1:
            # An error that is not finite twice has not become better.
            worse = ends[-1] > ends[-2] or math.isinf(ends[-1])
            self.rises = self.rises + 1 if worse else 0
        return self.rises >= self.strips

    def curves(self):
        """Return the number of rises in a row."""
        return {"successive_rises": self.rises}

    def why(self):
        """Return the number of rises."""
        return f"{super().why()}: worse in {self.rises} strips of {self.strip} checks in a row"


def progress(owner, name, errors, strip):
    """Return P_k of the last strip, in per mille; NaN while there is none, 0 if an error in it is not finite."""
    last = errors[-1]
    remedy = "Take Patience or UP for a loss that may be negative."
    expect(not last < 0, owner, f"{name} >= 0", remedy, **{name: last})
    if len(errors) < strip:
        return math.nan
    errors = errors[-strip:]
    if not all(map(math.isfinite, errors)):
        return 0.0
    mean, least = math.fsum(errors) / strip, min(errors)
    if least == 0:
        return math.inf if mean > 0 else 0.0
    return 1000 * (mean / least - 1)


def _expect_strip(owner, strip, least=2):
    expect_integer(owner, strip=strip)
    expect(strip >= least, owner, f"strip >= {least}", strip=strip)
