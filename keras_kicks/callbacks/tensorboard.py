"""TensorBoard, with what one looks at first."""

import os
import time

import keras

from keras_kicks._errors import expect, expect_integer
from keras_kicks.callbacks.layer_images import checked, contributors
from keras_kicks.callbacks.layer_norms import LayerNorms
from keras_kicks.callbacks.run_text import configuration_text, summary_text


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback, with learning rate, throughput, norms, the run's configuration and pictures.

    Besides what Keras writes, under `<log_dir>/train` for each epoch:

    - `epoch_learning_rate`, and `batch_learning_rate` where `update_freq` is "batch" or a number (with a number, Keras
      leaves epochs out; here all are written);
    - `epoch_steps_per_second` (of the optimizer) and `epoch_examples_per_second`: of training alone, without
      validation and callbacks at the end of the epoch; the first epoch includes the time to compile;
    - `epoch_weight_norm/<layer>`, `epoch_update_norm/<layer>`, `epoch_update_ratio/<layer>`: the L2 norm of the
      layer's weights, of what training changed since the last record, and the second over the first;

    and under `<log_dir>/run`, on its own since Keras's writer is not public:

    - the texts `summary` (of the model) and `configuration` (optimizer, loss, dtype policy, replicas, versions, what
      `fit` was called with, and `config`);
    - pictures: of every layer or loss with a method `tensorboard_images()` that returns `{tag: image}`, such as
      `keras_kicks.layers.MaxoutDense`, and of `images`.

    An image is an array of shape (height, width, channels) or (n, height, width, channels) with 1, 3 or 4 channels,
    of numbers in [0, 1] or of dtype uint8.

    Args:
        log_dir: Directory of the run.
        norms_freq: Epochs between two records of norms; 0 for none. A copy of the trainable weights is kept.
        image_freq: Epochs between two records of pictures; 0 for none.
        images: Dict of a function from the model to an image, by tag.
        config: Dict of entries for the text `configuration`: anything that JSON or `str` can show.
        **kwargs: As in `keras.callbacks.TensorBoard`.

    Raises:
        TypeError: a frequency is no integer, `images` no dict of functions, `config` no dict.
        ValueError: expected norms_freq >= 0 and image_freq >= 0; images of the shape and numbers above, when they are
            drawn.

    Example:
        >>> import tempfile, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> board = TensorBoard(tempfile.mkdtemp(), config={"idea": "none"})
        >>> history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[board])
    """

    def __init__(self, log_dir="logs", norms_freq=1, image_freq=1, images=None, config=None, **kwargs):
        owner = type(self).__name__
        expect_integer(owner, norms_freq=norms_freq, image_freq=image_freq)
        for name, value in (("norms_freq", norms_freq), ("image_freq", image_freq)):
            expect(value >= 0, owner, f"{name} >= 0", "Pass 0 for none.", **{name: value})
        functions = images is None or (isinstance(images, dict) and all(map(callable, images.values())))
        expect(functions, owner, "a dict of functions for images", error=TypeError, images=images)
        expect(config is None or isinstance(config, dict), owner, "a dict for config", error=TypeError, config=config)
        super().__init__(log_dir=os.fspath(log_dir), **kwargs)
        self.norms_freq = norms_freq
        self.image_freq = image_freq
        self.images = dict(images or {})
        self.config = config
        self._writer = None
        self._described = None
        self._norms = None
        self._clock = None
        self._speed = {}

    def on_train_begin(self, logs=None):
        """Start to write."""
        super().on_train_begin(logs)
        self._norms = None
        self._batches = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        super().on_epoch_begin(epoch, logs)
        if self.norms_freq and self._norms is None and self.model.built:
            self._norms = LayerNorms(self.model)
        self._speed, self._before, self._clock = {}, self._iterations(), time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Add the learning rate to what is written for a batch."""
        self._batches += 1
        self._batch = batch
        if isinstance(self.update_freq, int) and self._batches % self.update_freq == 0:
            logs = {**(logs or {}), **_learning_rate(self.model.optimizer)}
        super().on_train_batch_end(batch, logs)

    def on_test_begin(self, logs=None):
        """Stop the clock before the validation of an epoch."""
        self._stop_clock()
        super().on_test_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Write what belongs to an epoch."""
        self._stop_clock()
        logs = {**(logs or {}), **_learning_rate(self.model.optimizer), **self._speed}
        # A model that is built by its first batch has no update in its first epoch.
        if self.norms_freq and epoch % self.norms_freq == 0:
            norms = self._norms
            if norms is None:
                self._norms = LayerNorms(self.model)
            else:
                logs.update(norms.read())
        # Keras would write for an epoch only if its last batch is one that is written.
        with self.summary.record_if(True):
            super().on_epoch_end(epoch, logs)
            self._describe()
            if self.image_freq and epoch % self.image_freq == 0:
                self._draw(epoch)

    def on_train_end(self, logs=None):
        """Close the files."""
        super().on_train_end(logs)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _stop_clock(self):
        """Take the speed, once an epoch: before the metrics are reset, which count the examples."""
        if self._clock is None:
            return
        # Where the data end too early, Keras counts too many of the one with steps_per_execution, of the other without.
        steps = min(self._iterations() - self._before, self._batch + 1)
        examples = _examples_seen(self.model)
        seconds = time.perf_counter() - self._clock
        self._clock = None
        self._speed = {"steps_per_second": steps / seconds}
        if examples:
            self._speed["examples_per_second"] = examples / seconds

    def _iterations(self):
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _run_writer(self):
        if self._writer is None:
            self._writer = self.summary.create_file_writer(os.path.join(self.log_dir, "run"))
        return self._writer

    def _describe(self):
        """Write the texts, once for each model: at the end of the first epoch, when it is surely built."""
        if self._described == id(self.model):
            return
        self._described = id(self.model)
        with self._run_writer().as_default(step=0):
            self.summary.text("summary", summary_text(self.model))
            self.summary.text("configuration", configuration_text(self.model, self.params, self.config))
        self._writer.flush()

    def _draw(self, epoch):
        owner = type(self).__name__
        drawn = {f"{path}/{tag}": image for path, part in contributors(self.model).items() for tag, image in _of(part)}
        drawn.update({tag: function(self.model) for tag, function in self.images.items()})
        if not drawn:
            return
        arrays = {tag: checked(owner, tag, image) for tag, image in drawn.items()}
        with self._run_writer().as_default(step=epoch):
            for tag, array in arrays.items():
                self.summary.image(tag, array, max_outputs=len(array))
        self._writer.flush()


def _of(part):
    return part.tensorboard_images().items()


def _learning_rate(optimizer):
    """Return the learning rate, of the optimizer inside if losses are scaled."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = getattr(optimizer, "learning_rate", None)
    return {} if rate is None else {"learning_rate": float(keras.ops.convert_to_numpy(rate))}


def _examples_seen(model):
    """Return the number of examples since the metrics were reset, which Keras weights the mean of the loss by."""
    for metric in model.metrics:
        if metric.name == "loss" and isinstance(metric, keras.metrics.Mean):
            return float(keras.ops.convert_to_numpy(metric.count))
    return None
