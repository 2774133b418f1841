"""How far the training loss is below the validation loss, both measured alike."""

import importlib.util
import os

import keras

from keras_kicks._errors import expect, expect_integer, expect_number, expect_seed
from keras_kicks.callbacks.drawn_samples import drawn_samples
from keras_kicks.callbacks.gap_verdict import gap_verdict
from keras_kicks.callbacks.learning_curves_picture import learning_curves_picture
from keras_kicks.callbacks.quiet_evaluation import evaluate_quietly, expect_data


class GeneralizationGap(keras.callbacks.Callback):
    """Measures the training loss as the validation loss is measured, and the gap between them, after each epoch.

        gap = validation loss - training loss

    Keras's `loss` is a mean over the steps of the epoch, each with other weights, in training mode: with Dropout it is
    often above the validation loss. Here the model is evaluated on training data, or on a sample of them, with the
    weights that the epoch ends with and in inference mode, without class weights. Training goes on as without it.

    The logs get `train_loss` and `gap`, and for each other metric of the model `train_<metric>` and `gap_<metric>`,
    validation minus training, for callbacks that come later, such as `keras.callbacks.EarlyStopping` or TensorBoard,
    and for the history. It must come before them in the list of callbacks.

    Under `<log_dir>/generalization_gap`, for each epoch: the curves `train_<metric>`, `val_<metric>`, `gap` and
    `gap_<metric>`; at the end of `fit` the text `verdict` and, if there is matplotlib, `learning_curves`.

    Args:
        data: Training data: (x, y), (x, y, sample_weight), or a dataset of batches of these.
        validation_data: Likewise; None for what `fit` validates with. Needed where the gap is to be known in epochs
            that `fit` does not validate.
        samples: Training examples to draw, in memory, once; None to evaluate all data.
        seed: Seed of that draw.
        steps: Batches of a dataset to look at; needed if it has no end.
        batch_size: As in `evaluate`.
        target: A loss that is known to be within reach, for the verdict; None where none is known.
        log_dir: Directory of the run for TensorBoard; None to write nothing.

    Attributes:
        history: Dict of lists, of `epoch`, `loss` (Keras's running mean), `train_...`, `val_...` and `gap...`.
        verdict: "overfitting", "underfitting" (only with a target), "improving", "flat" or "unknown".
        reason: A sentence why.

    Raises:
        ImportError: there is no TensorFlow, with `log_dir`.
        TypeError: `data` can be read but once; a count is no integer.
        ValueError: expected samples >= 1, steps >= 1; data that end, or steps; at the end of an epoch, validation data;
            val_loss among what fit has validated, which Boosting does not measure: this callback does by its own data.

    Example:
        >>> import numpy as np
        >>> x, y = np.ones((8, 1)), np.zeros(8)
        >>> layer = keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)
        >>> model = keras.Sequential([keras.Input((1,)), layer])
        >>> model.compile(keras.optimizers.SGD(0.25), "mse")
        >>> gap = GeneralizationGap((x, y))
        >>> history = model.fit(x, y, validation_data=(x, y + 1), epochs=2, verbose=0, callbacks=[gap])
        >>> history.history["train_loss"]
        [0.25, 0.0625]
        >>> history.history["gap"]
        [0.0, 0.5]
    """

    def __init__(
        self,
        data,
        validation_data=None,
        samples=None,
        seed=0,
        steps=None,
        batch_size=None,
        target=None,
        log_dir=None,
    ):
        super().__init__()
        owner = self._owner = type(self).__name__
        expect_data(owner, "data", data)
        expect(data is not None, owner, "training data", "A callback does not see those of fit.", TypeError, data=data)
        expect_data(owner, "validation_data", validation_data)
        for name, value in (("samples", samples), ("steps", steps)):
            if value is not None:
                expect_integer(owner, **{name: value})
                expect(value >= 1, owner, f"{name} >= 1", **{name: value})
        expect_seed(owner, seed)
        if target is not None:
            expect_number(owner, target=target)
        if samples is not None:
            data, steps = drawn_samples(owner, data, samples, seed, steps), None
        if log_dir is not None:
            found = importlib.util.find_spec("tensorflow") is not None
            remedy = "Pass log_dir=None."
            expect(found, owner, "TensorFlow, to write for TensorBoard", remedy, ImportError, log_dir=log_dir)
        self.data, self.validation_data, self.steps, self.batch_size = data, validation_data, steps, batch_size
        self.target, self.log_dir = target, None if log_dir is None else os.fspath(log_dir)
        self.history = {}

    @property
    def verdict(self):
        """What the curves say."""
        return self._verdict()[0]

    @property
    def reason(self):
        """Why."""
        return self._verdict()[1]

    def picture(self, metric="loss", size=(7.0, 4.0)):
        """Draw the curves of a metric.

        Args:
            metric: Its name.
            size: Width and height in units of 100 pixels.

        Returns:
            uint8 array of shape (height, width, 3).

        Raises:
            ImportError: there is no matplotlib.
            ValueError: expected an epoch, and a metric of the model.
        """
        known = [name.removeprefix("train_") for name in self.history if name.startswith("train_")]
        expect(metric in known, self._owner, f"metric to be one of {known}", metric=metric)
        train, validation = self.history[f"train_{metric}"], self.history[f"val_{metric}"]
        epochs = [epoch + 1 for epoch in self.history["epoch"]]
        title = self.verdict if metric == "loss" and self.verdict != "unknown" else None
        return learning_curves_picture(train, validation, self.history.get(metric), epochs, metric, title, size)

    def on_train_begin(self, logs=None):
        """Begin anew."""
        self.history, self._writer = {}, None

    def on_epoch_end(self, epoch, logs=None):
        """Measure."""
        validation = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
        if self.validation_data is not None:
            found = evaluate_quietly(self.model, self.validation_data, self.batch_size)
            validation = {f"val_{name}": value for name, value in found.items()}
        if not validation and self.history:
            return  # An epoch that `fit` does not validate.
        remedy = "Pass validation_data to fit or to this callback, and let fit validate the first epoch."
        expect(validation, self._owner, "validation data", remedy, logs=list(logs or {}))
        rule, remedy = "val_loss among what fit has validated", "Pass validation_data to this callback."
        expect("val_loss" in validation, self._owner, rule, remedy, logs=list(logs or {}))
        train = evaluate_quietly(self.model, self.data, self.batch_size, self.steps)
        found = {f"train_{name}": value for name, value in train.items()}
        for name, value in train.items():
            if f"val_{name}" in validation:
                found["gap" if name == "loss" else f"gap_{name}"] = validation[f"val_{name}"] - value
        running = {name: logs[name] for name in train if name in logs}
        for name, value in {"epoch": epoch, **running, **validation, **found}.items():
            self.history.setdefault(name, []).append(value)
        logs.update(found)
        if self.log_dir is not None:
            self._write(epoch, {**validation, **found})

    def on_train_end(self, logs=None):
        """Write the verdict, and the picture."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._writer.as_default(step=self.history["epoch"][-1]), tf.summary.record_if(True):
            tf.summary.text("verdict", f"**{self.verdict}**: {self.reason}")
            if importlib.util.find_spec("matplotlib") is not None:
                tf.summary.image("learning_curves", self.picture()[None])
        self._writer.close()
        self._writer = None

    def _verdict(self):
        return gap_verdict(self.history.get("train_loss", ()), self.history.get("val_loss", ()), self.target)

    def _write(self, epoch, numbers):
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(os.path.join(self.log_dir, "generalization_gap"))
        with self._writer.as_default(step=epoch), tf.summary.record_if(True):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
