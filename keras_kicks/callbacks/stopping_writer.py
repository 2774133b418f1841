"""The numbers of rules of early stopping, for TensorBoard."""

import importlib.util
import math
import os

from keras_kicks._errors import expect


class StoppingWriter:
    """Writes what rules compare with their limits, and why they stopped.

    Args:
        owner: Name of the callback.
        log_dir: Directory of the run; it writes under `early_stopping` in there.

    Raises:
        ImportError: there is no TensorFlow.
    """

    def __init__(self, owner, log_dir):
        found = importlib.util.find_spec("tensorflow") is not None
        expect(found, owner, "TensorFlow, to write for TensorBoard", "Pass log_dir=None.", ImportError, log_dir=log_dir)
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(os.path.join(log_dir, "early_stopping"))

    def check(self, rules, step):
        """Write the curves of rules, each under the label and the metric of the rule."""
        written = {}
        with self._writer.as_default(step=step), self._summary.record_if(True):
            for rule in rules:
                curves = {"value": rule.values[-1] if rule.mode == "min" else -rule.values[-1], **rule.curves()}
                for name, number in curves.items():
                    tag = f"{rule.label}/{rule.monitor}/{name}"
                    written[tag] = written.get(tag, 0) + 1
                    # Two rules of the same name have different strips.
                    tag = tag if written[tag] == 1 else f"{tag}_{written[tag]}"
                    if math.isfinite(number):
                        self._summary.scalar(tag, number)
        self._writer.flush()

    def end(self, text, step):
        """Write why training has ended, and close the file."""
        with self._writer.as_default(step=step), self._summary.record_if(True):
            self._summary.text("early_stopping", text)
        self._writer.close()
