"""TensorBoard, with what one looks at first."""

import numbers
import os

import keras

from keras_kicks._errors import expect, expect_integer
from keras_kicks.callbacks.layer_images import pictures
from keras_kicks.callbacks.layer_norms import LayerNorms
from keras_kicks.callbacks.run_text import configuration_text, summary_text
from keras_kicks.callbacks.throughput import Throughput


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback, with learning rate, throughput, norms, the run's configuration and pictures.

    Besides what Keras writes, under `<log_dir>/train` for each epoch:

    - `epoch_learning_rate`, and `batch_learning_rate` where `update_freq` is "batch" or a number (with a number, Keras
      leaves epochs out; here all are written);
    - `epoch_gradient_norm` (before clipping, in the last step), `epoch_clip_rate` (of all steps so far) and
      `epoch_non_finite_steps`, and the same for batches, of an optimizer with
      `keras_kicks.optimizers.GradientClipping` in it;
    - `epoch_steps_per_second` and `epoch_examples_per_second`: of training alone, without validation and what
      callbacks do at the end of the epoch; the first epoch includes the time to compile. Examples are left out where
      they are unknown: in a model with a `train_step` or `metrics` of its own, and beyond 2^24 in one epoch;
    - `epoch_weight_norm/<layer>`, `epoch_update_norm/<layer>`, `epoch_update_ratio/<layer>`: the L2 norm of the
      layer's trainable weights (of all its floating weights, if it is frozen), of what training changed since the
      last record, and the second over the first. A model that is built by its first batch has no update in its first
      record, and a frozen layer has none at all;

    and under `<log_dir>/run`, on its own since Keras's writer is not public:

    - the texts `summary` (of the model) and `configuration` (optimizer, loss, dtype policy, replicas, versions, what
      `fit` was called with, and `config`), after the first batch, and again after that of a later `fit` in which they
      differ;
    - pictures: of the model and every layer, loss or regularizer in it with a method `tensorboard_images()` that
      returns `{tag: image}`, such as `keras_kicks.layers.MaxoutDense`, and of `images`.

    An image is an array of shape (height, width, channels) or (n, height, width, channels) with 1, 3 or 4 channels,
    of numbers in [0, 1] or of dtype uint8.

    Epochs are numbered as `fit` numbers them. Batches are counted through all calls of `fit` with this callback.

    Args:
        log_dir: Directory of the run.
        *args: As in `keras.callbacks.TensorBoard`.
        norms_freq: Epochs between two records of norms; 0 for none. A copy of the trainable weights is kept.
        image_freq: Epochs between two records of pictures; 0 for none.
        images: Dict of a function from the model to an image, by tag.
        config: Dict of entries for the text `configuration`: anything that JSON or `str` can show. Entries named like
            a password, key or token are blotted out.
        **kwargs: As in `keras.callbacks.TensorBoard`.

    Raises:
        RuntimeError: a function or a method that was to draw an image failed.
        TypeError: a frequency is no integer, `images` no dict of functions, `config` no dict; an image is no array,
            when it is drawn.
        ValueError: expected norms_freq >= 0 and image_freq >= 0; update_freq to be "epoch", "batch" or an integer
            >= 1; images of the shape and numbers above and of different tags, when they are drawn.

    Example:
        >>> import tempfile, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> board = TensorBoard(tempfile.mkdtemp(), config={"idea": "none"})
        >>> history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[board])
    """

    def __init__(self, log_dir="logs", *args, norms_freq=1, image_freq=1, images=None, config=None, **kwargs):
        owner = type(self).__name__
        expect_integer(owner, norms_freq=norms_freq, image_freq=image_freq)
        for name, value in (("norms_freq", norms_freq), ("image_freq", image_freq)):
            expect(value >= 0, owner, f"{name} >= 0", "Pass 0 for none.", **{name: value})
        functions = images is None or (isinstance(images, dict) and all(map(callable, images.values())))
        expect(functions, owner, "a dict of functions for images", error=TypeError, images=images)
        expect(config is None or isinstance(config, dict), owner, "a dict for config", error=TypeError, config=config)
        super().__init__(os.fspath(log_dir), *args, **kwargs)
        freq = self.update_freq
        counted = isinstance(freq, numbers.Integral) and not isinstance(freq, bool) and freq >= 1
        rule = 'update_freq to be "epoch", "batch" or an integer >= 1'
        expect(counted or freq == "epoch", owner, rule, update_freq=freq)
        self.norms_freq = norms_freq
        self.image_freq = image_freq
        self.images = dict(images or {})
        self.config = config
        self._writer = None
        self._batches = 0
        self._epoch = 0
        self._described = False
        self._texts = {}
        self._norms = None
        self._throughput = None

    def on_train_begin(self, logs=None):
        """Start to write."""
        super().on_train_begin(logs)
        # Keras counts anew in each `fit`, and the curves of a second one would go back to the first batch. It has no
        # public name for its counter.
        self._global_train_batch = self._batches
        self._described = False
        self._norms = None

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        super().on_epoch_begin(epoch, logs)
        self._epoch = epoch
        if self.norms_freq and self._norms is None and self.model.built:
            self._norms = LayerNorms(self.model)
        self._throughput = Throughput(self.model, (self.params or {}).get("steps"))

    def on_train_batch_end(self, batch, logs=None):
        """Add the learning rate to what is written for a batch."""
        self._throughput.batch_end(batch)
        self._batches += 1
        if self.update_freq != "epoch" and self._batches % self.update_freq == 0:
            self._sync()
            logs = {**(logs or {}), **_learning_rate(self.model.optimizer), **_clipping(self.model.optimizer)}
        super().on_train_batch_end(batch, logs)
        if not self._described:
            self._describe()

    def on_test_begin(self, logs=None):
        """Stop the clock before the validation of an epoch."""
        if self._throughput is not None:
            self._throughput.read()
        super().on_test_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Write what belongs to an epoch."""
        optimizer = self.model.optimizer
        logs = {**(logs or {}), **_learning_rate(optimizer), **_clipping(optimizer), **self._throughput.read()}
        if self.norms_freq and epoch % self.norms_freq == 0:
            logs.update(self._read_norms())
        # Keras would count validation into the steps per second of an epoch.
        per_second, self.write_steps_per_second = self.write_steps_per_second, False
        try:
            # Keras would write for an epoch only if its last batch is one that is written.
            with self.summary.record_if(True):
                super().on_epoch_end(epoch, logs)
                if self.image_freq and epoch % self.image_freq == 0:
                    self._draw(epoch)
        finally:
            self.write_steps_per_second = per_second

    def on_train_end(self, logs=None):
        """Close the files."""
        super().on_train_end(logs)
        self._norms = self._throughput = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _read_norms(self):
        if self._norms is not None:
            return self._norms.read()
        # A model that is built by its first batch.
        self._norms = LayerNorms(self.model)
        return {tag: norm for tag, norm in self._norms.read().items() if tag.startswith("weight_norm/")}

    def _sync(self):
        """Give the model the state that JAX keeps to itself during an epoch."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()

    def _run_writer(self):
        if self._writer is None:
            self._writer = self.summary.create_file_writer(os.path.join(self.log_dir, "run"))
        return self._writer

    def _describe(self):
        """Write the texts that are new; after a batch, when the model and its metrics are surely built."""
        self._described = True
        self._sync()
        texts = {
            "summary": summary_text(self.model),
            "configuration": configuration_text(self.model, self.params, self.config),
        }
        with self._run_writer().as_default(step=self._epoch), self.summary.record_if(True):
            for tag, text in texts.items():
                if text != self._texts.get(tag):
                    self.summary.text(tag, text)
        self._writer.flush()
        self._texts = texts

    def _draw(self, epoch):
        drawn = pictures(type(self).__name__, self.model, self.images)
        if not drawn:
            return
        with self._run_writer().as_default(step=epoch):
            for tag, array in drawn.items():
                self.summary.image(tag, array, max_outputs=len(array))
        self._writer.flush()


def _learning_rate(optimizer):
    """Return the learning rate, of the optimizer inside if losses are scaled."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = getattr(optimizer, "learning_rate", None)
    return {} if rate is None else {"learning_rate": float(keras.ops.convert_to_numpy(rate))}


def _clipping(optimizer):
    """Return what the first optimizer tells that clips, from the outside to the inside."""
    while optimizer is not None and not hasattr(optimizer, "clip_rate"):
        optimizer = getattr(optimizer, "inner_optimizer", None) or getattr(optimizer, "optimizer", None)
    names = () if optimizer is None else ("gradient_norm", "clip_rate", "non_finite_steps")
    return {name: float(getattr(optimizer, name)) for name in names}
