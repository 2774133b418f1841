"""Gradients, for TensorBoard."""

import importlib.util
import math

from keras_kicks.callbacks.watched_activations import is_dead_kind


class GradientWriter:
    """Writes samples and reports into one directory.

    Args:
        folder: The directory; it is made with the first record.
    """

    def __init__(self, folder):
        import tensorflow as tf

        self._tf = tf
        self._writer = tf.summary.create_file_writer(folder)
        self._pictures = importlib.util.find_spec("matplotlib") is not None

    def sample(self, sample, kinds):
        """Write the curves and histograms of a sampled step.

        Args:
            sample: A `GradientSample`.
            kinds: Kind of the activation by path.
        """
        summary = self._tf.summary
        with self._writer.as_default(step=sample.step), summary.record_if(True):
            summary.scalar("gradient_norm", sample.gradient_norm)
            for path, share in sample.shares.items():
                if not math.isnan(share):
                    summary.scalar(f"{'dead_units' if is_dead_kind(kinds[path]) else 'saturated'}/{path}", share)
            for path, layer in sample.statistics.items():
                for tag, number in sample.numbers(path).items():
                    summary.scalar(f"{tag}/{path}", number)
                for name, variable in layer.items():
                    if variable is not None and variable.histogram is not None:
                        self._histogram(f"gradient/{path}/{name}", variable.histogram)
        self._writer.flush()

    def report(self, report):
        """Write the verdict, and the picture."""
        summary = self._tf.summary
        with self._writer.as_default(step=report.steps[1]), summary.record_if(True):
            summary.text("gradient_flow", report.text())
            if self._pictures:
                summary.image("gradient_flow/picture", report.picture()[None])
        self._writer.flush()

    def close(self):
        """Close the file."""
        self._writer.close()

    def _histogram(self, tag, buckets):
        """Write counts that were made already; `tf.summary.histogram` would want the values."""
        metadata = self._tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "histograms"
        self._tf.summary.write(tag, self._tf.constant(buckets, "float64"), metadata=metadata)
