"""Follows a model while it is pruned."""

import os

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks.compression.prune import pruned_variables, remask
from keras_kicks.compression.sparsity_report import kernels_by_path


class PruningCallback(keras.callbacks.Callback):
    """Writes the sparsity of a model that is pruned, and sees to it that it is pruned, and stays so.

    Training refuses to begin if the model was not prepared. At the end of each epoch its sparsity is in the logs, as
    `sparsity`: in the progress bar's last line, in the history, and for callbacks that come later. At the end of
    training pruned weights are zero again, also where `use_ema` has set them to averages.

    For TensorBoard, under `<log_dir>/pruning`: `sparsity/<layer>/<weight>` for each weight that is pruned,
    `sparsity/total`, and `threshold/<layer>/<weight>`, the magnitude below which weights were pruned at last (none for
    m by n). Epochs are numbered as `fit` numbers them, batches are counted through all calls of `fit`.

    Args:
        log_dir: Directory of the run; None to write nothing.
        update_freq: "epoch" to write at the end of each epoch, or a number of batches. Reading the masks takes a pass
            over them.

    Raises:
        RuntimeError: expected a model from `prune_low_magnitude`, when training begins.
        TypeError: `update_freq` is neither "epoch" nor an integer.
        ValueError: expected update_freq >= 1.

    Example:
        >>> from keras_kicks.compression import ConstantSparsity, prune_low_magnitude
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model = prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=0, frequency=1))
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 4)), np.ones((8, 2))
        >>> model.fit(x, y, verbose=0, callbacks=[PruningCallback()]).history["sparsity"]
        [0.5]
    """

    def __init__(self, log_dir=None, update_freq="epoch"):
        super().__init__()
        if update_freq != "epoch":
            owner = type(self).__name__
            expect_integer(owner, 'Pass "epoch" or a number of batches.', update_freq=update_freq)
            expect(update_freq >= 1, owner, "update_freq >= 1", update_freq=update_freq)
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        self.update_freq = update_freq
        self._kernels = {}
        self._writer = None
        self._batches = 0
        self._before_epoch = 0

    def on_train_begin(self, logs=None):
        """Refuse a model that was not prepared."""
        owner = type(self).__name__
        pruned = {id(variable) for variable in pruned_variables(self.model)}
        rule, remedy = "a model from prune_low_magnitude", "Call it before compile."
        expect(bool(pruned), owner, rule, remedy, RuntimeError, model=self.model.name)
        kernels = kernels_by_path(owner, self.model)
        self._kernels = {path: kernel for path, kernel in kernels.items() if id(kernel) in pruned}

    def on_epoch_begin(self, epoch, logs=None):
        """Count the batches of an epoch."""
        self._before_epoch = self._batches

    def on_train_batch_end(self, batch, logs=None):
        """Write, where batches are written."""
        # With steps_per_execution, Keras tells of the last of several batches alone.
        written = 0 if self.update_freq == "epoch" else self._batches // self.update_freq
        self._batches = self._before_epoch + batch + 1
        if self.update_freq != "epoch" and self._batches // self.update_freq > written:
            self._write(self._state(), self._batches)

    def on_epoch_end(self, epoch, logs=None):
        """Add the sparsity to the logs, and write, where epochs are written."""
        state = self._state()
        if logs is not None:
            logs["sparsity"] = state["sparsity/total"]
        if self.update_freq == "epoch":
            self._write(state, epoch)

    def on_train_end(self, logs=None):
        """Set pruned weights to zero, and close the file."""
        remask(self.model)
        self._kernels = {}
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _state(self):
        """Return sparsities and thresholds by tag."""
        sparsity, threshold, zeros, weights = {}, {}, 0, 0
        for path, kernel in self._kernels.items():
            constraint = kernel.constraint
            index = constraint.index(kernel)
            mask = ops.convert_to_numpy(constraint.masks[index])
            zeros += mask.size - np.count_nonzero(mask)
            weights += mask.size
            sparsity[f"sparsity/{path}"] = 1 - np.count_nonzero(mask) / mask.size
            if constraint.sparsity_m_by_n is None:
                threshold[f"threshold/{path}"] = float(ops.convert_to_numpy(constraint.thresholds[index]))
        return {**sparsity, "sparsity/total": float(zeros / weights), **threshold}

    def _write(self, state, step):
        if self.log_dir is None:
            return
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(os.path.join(self.log_dir, "pruning"))
        with self._writer.as_default(step=step), tf.summary.record_if(True):
            for tag, value in state.items():
                tf.summary.scalar(tag, value)
        self._writer.flush()
