"""What a measurement of the noise in gradients returns."""

import dataclasses
import math
import os

import numpy as np

from keras_kicks._text_tables import aligned, markdown


@dataclasses.dataclass(frozen=True, eq=False)
class GradientNoiseScale:
    """The gradient of all data, and the noise in that of a batch; a table when printed.

    Args:
        gradient: The gradient of all data by the trainable weights of the model: float64 arrays in their order.
        traces: For each of them, the trace of the covariance of the gradients of single samples.
        samples: Number of samples.
        batches: Number of batches that it was measured with.
        layers: By path of a layer, the places of its weights in the first two.
    """

    gradient: tuple
    traces: tuple
    samples: int
    batches: int
    layers: dict

    @property
    def gradient_norm(self):
        """The L2 norm of the gradient of all data."""
        return math.sqrt(sum(float(np.sum(np.square(g))) for g in self.gradient))

    @property
    def trace(self):
        """The trace of the covariance of the gradients of single samples."""
        return float(sum(self.traces))

    @property
    def noise_scale(self):
        """Samples of a batch whose noise is as long as the gradient.

        The gradient is that of the distribution that the data come from: its square is less than that of all data by
        what their own noise adds. It is infinite where the gradient cannot be told from 0.
        """
        return self._scale(range(len(self.gradient)))

    def of_layer(self, path):
        """Return the noise scale of the weights of one layer."""
        if path not in self.layers:
            raise KeyError(f"{path!r}; there are: {', '.join(map(repr, self.layers))}")
        return self._scale(self.layers[path])

    def relative_error(self, batch_size):
        """Return the root mean square distance of the gradient of a batch from that of all data, over its norm.

        Args:
            batch_size: Samples that are drawn anew for each batch, or an array of such numbers.
        """
        return np.sqrt(self.trace / np.asarray(batch_size, "float64")) / self.gradient_norm

    def steps(self, batch_size):
        """Return the steps to a goal as a multiple of those with the gradient of all data: 1 + noise scale / B."""
        return 1 + self.noise_scale / np.asarray(batch_size, "float64")

    def examples(self, batch_size):
        """Return the samples to a goal as a multiple of those with the smallest batch: 1 + B / noise scale."""
        return 1 + np.asarray(batch_size, "float64") / self.noise_scale

    def write(self, log_dir, step=0):
        """Write it for TensorBoard: `gradient_noise_scale` and `gradient_noise_scale/<layer>`, and a text.

        Args:
            log_dir: Directory of the run, or a writer of `tf.summary`.
            step: Step of training at which the model was.
        """
        import tensorflow as tf

        own = isinstance(log_dir, (str, os.PathLike))
        writer = tf.summary.create_file_writer(os.fspath(log_dir)) if own else log_dir
        with writer.as_default(step=step), tf.summary.record_if(True):
            tf.summary.scalar("gradient_noise_scale", self.noise_scale)
            for path in self.layers:
                tf.summary.scalar(f"gradient_noise_scale/{path}", self.of_layer(path))
            tf.summary.text("gradient_noise", markdown(self._rows()))
        writer.flush()
        if own:
            writer.close()

    def __str__(self):
        return aligned(self._rows(), left=(0,))

    def _rows(self):
        rows = [("layer", "gradient norm", "trace of covariance", "noise scale")]
        for path, places in [("all", range(len(self.gradient))), *self.layers.items()]:
            norm = math.sqrt(sum(float(np.sum(np.square(self.gradient[i]))) for i in places))
            trace = sum(self.traces[i] for i in places)
            rows.append((path, f"{norm:.3g}", f"{trace:.3g}", f"{self._scale(places):.3g}"))
        return rows

    def _scale(self, places):
        trace = sum(self.traces[i] for i in places)
        square = sum(float(np.sum(np.square(self.gradient[i]))) for i in places) - trace / self.samples
        return trace / square if square > 0 else math.inf
