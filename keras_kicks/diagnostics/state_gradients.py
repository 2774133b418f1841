"""What a measurement of gradients through time returns."""

import dataclasses
import math
import os

import numpy as np

from keras_kicks._text_tables import aligned, markdown
from keras_kicks.diagnostics.gradient_picture import gradient_picture

# A gradient that shrinks by more than this over the whole sequence is lost beside that of the last steps, which the
# weights learn from. One that grows by more leaves nothing of theirs.
FACTOR = 100.0


@dataclasses.dataclass(frozen=True, eq=False)
class StateGradient:
    """The norms of dL/dh_t of one layer, over the lag; lag 0 is the last step.

    Args:
        layer: Path of the layer in the model.
        norms: float64 array of shape (samples, lags): one norm for each sample and lag; infinite if the gradient is no
            number, and NaN beyond the first step of a sample.
    """

    layer: str
    norms: np.ndarray

    @property
    def lags(self):
        """The lags: 0, 1, ..., as many as the longest sample has steps."""
        return np.arange(self.norms.shape[1])

    @property
    def mean(self):
        """Mean over the samples, for each lag."""
        return np.nanmean(self.norms, axis=0)

    @property
    def median(self):
        """Median over the samples, for each lag."""
        return self.quantile(0.5)

    def quantile(self, q):
        """Return a quantile over the samples for each lag, or several: shape (q, lags)."""
        with np.errstate(invalid="ignore"):  # Of infinite norms.
            return np.nanquantile(self.norms, q, axis=0)

    @property
    def rate(self):
        """Factor by which the median norm changes in one step back in time.

        It is exp(slope) of the line fitted by least squares to the logarithms of what is neither 0 nor infinite; NaN
        with less than two of these.
        """
        lags = np.flatnonzero((self.median > 0) & np.isfinite(self.median))
        if len(lags) < 2:
            return math.nan
        return float(np.exp(np.polyfit(lags, np.log(self.median[lags]), 1)[0]))

    @property
    def verdict(self):
        """One of "vanishing", "exploding", "healthy" and "unknown".

        Vanishing: over all lags, the fitted line falls by a factor of more than 100, or the median is 0 from some
        lag on. Exploding: it rises by more, or a norm is infinite. Unknown: less than two lags have a gradient.
        """
        median, rate = self.median, self.rate
        positive = np.flatnonzero(median > 0)
        if np.isinf(self.norms).any():
            return "exploding"
        # Cells that only see every k-th step before have a gradient at every k-th lag.
        apart = np.diff(positive).max() if len(positive) > 1 else 1
        begun = len(positive) > 1 or 0 in positive
        if begun and positive[-1] + apart < len(median):
            return "vanishing"
        if math.isnan(rate):
            return "unknown"
        change = math.log(rate) * (len(median) - 1)
        if abs(change) <= math.log(FACTOR):
            return "healthy"
        return "exploding" if change > 0 else "vanishing"


@dataclasses.dataclass(frozen=True, eq=False)
class GradientThroughTime:
    """Gradients through time of the layers of a model; a table when printed.

    Args:
        curves: A `StateGradient` for each layer. Curves of several models go into one picture by
            `GradientThroughTime(curves)`.
    """

    curves: tuple

    def __getitem__(self, layer):
        found = {curve.layer: curve for curve in self.curves}
        if layer not in found:
            raise KeyError(f"{layer!r}; there are: {', '.join(map(repr, found))}")
        return found[layer]

    def __str__(self):
        rows = self._rows()
        return aligned(rows, left=(0, len(rows[0]) - 1))

    def picture(self):
        """Return the median norms over the lag on a logarithmic scale, each in a band from the 0.1 to the 0.9 quantile.

        In TensorBoard, for each epoch: `keras_kicks.callbacks.TensorBoard(log_dir, images={"gradient": lambda model:
        gradient_through_time(model, x).picture()})`.

        Returns:
            uint8 array of shape (height, width, 3).

        Raises:
            ImportError: there is no matplotlib.
        """
        return gradient_picture(self.curves)

    def write(self, log_dir, step=0, picture=True):
        """Write it for TensorBoard.

        - `gradient_through_time/<layer>/norm_by_lag_at_<step>`: the median norm, with the lag as TensorBoard's step;
        - `gradient_through_time/<layer>/rate` at `step`: a curve over training, if written again and again;
        - `gradient_through_time`, at `step`: the table as a text, and `gradient_through_time/picture`.

        Args:
            log_dir: Directory of the run, or a writer of `tf.summary`.
            step: Step of training at which the model was.
            picture: Whether to draw, which takes matplotlib.
        """
        import tensorflow as tf

        own = isinstance(log_dir, (str, os.PathLike))
        writer = tf.summary.create_file_writer(os.fspath(log_dir)) if own else log_dir
        with writer.as_default(step=step), tf.summary.record_if(True):
            for curve in self.curves:
                tag = f"gradient_through_time/{curve.layer}"
                for lag, norm in enumerate(curve.median):
                    tf.summary.scalar(f"{tag}/norm_by_lag_at_{step}", norm, step=lag)
                tf.summary.scalar(f"{tag}/rate", curve.rate)
            tf.summary.text("gradient_through_time", markdown(self._rows()))
            if picture:
                tf.summary.image("gradient_through_time/picture", self.picture()[None])
        writer.flush()
        if own:
            writer.close()

    def _rows(self):
        rows = [("layer", "lags", "at lag 0", "at last lag", "rate a step", "verdict")]
        for curve in self.curves:
            ends = (f"{norm:.3g}" for norm in curve.median[[0, -1]])
            rows.append((curve.layer, str(len(curve.lags)), *ends, f"{curve.rate:.3f}", curve.verdict))
        return rows
