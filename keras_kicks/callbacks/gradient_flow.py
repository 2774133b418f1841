"""How the gradients of each layer are while a model is trained."""

import math
import os
from collections import deque

import keras

from keras_kicks._errors import expect, expect_integer
from keras_kicks._layer_tree import parts_by_path
from keras_kicks.callbacks.gradient_samples import GradientSample, report
from keras_kicks.callbacks.gradient_statistics import decoded
from keras_kicks.callbacks.gradient_writer import GradientWriter
from keras_kicks.callbacks.layer_norms import weights_by_layer
from keras_kicks.callbacks.recorded_step import RecordedStep
from keras_kicks.callbacks.watched_activations import watched_layers
from keras_kicks.optimizers.functional_optimizer import steps_to_update

# Norms of all gradients that a later one is compared with.
REMEMBERED = 1000


class GradientFlow(keras.callbacks.Callback):
    """Samples the gradients that `fit` computes, tells how they are in each layer, and gives a verdict.

    Every `sample_freq` steps, one step is made by a second training function, which is compiled from the same
    `train_step` and also keeps statistics: there is no second backward pass, and the steps between are those of Keras,
    untouched. Training goes on as without it. The gradients are those of the whole batch, summed over all replicas of
    `tf.distribute`, without loss scaling and before clipping. At the end of each epoch `report` sums them up.

    Under `<log_dir>/gradients`, with the number of the step (from 0, through all calls of `fit` with this callback):

    - `gradient_norm`, and `gradient_norm/<layer>`: L2 norm of all gradients, and of those of a layer;
    - `update_ratio/<layer>`: norm of what the step changed over the norm of the weights; about 0.001 is usual;
    - `dead_units/<layer>`: share of the units of a ReLU that are 0 for all of the batch;
    - `saturated/<layer>`: share of the values of a sigmoid, tanh, softsign, hard sigmoid or hard tanh whose slope is
      less than a tenth of the largest;
    - `gradient/<layer>/<variable>`: histograms; of a variable with more than 32,768 elements, of as many of them,
      evenly spaced;
    - for each epoch the text `gradient_flow` (verdict, where and why, and a table) and, if there is matplotlib,
      `gradient_flow/picture`: the root mean square of the gradient over the depth.

    A step with gradient accumulation is one that updates the variables; its gradient is that of its own batch. With
    `steps_per_execution`, there is one sample in each execution at most. A model that computes its gradients elsewhere
    than in `train_step` and `optimizer.apply`, such as one with several optimizers, shows what goes through
    `model.optimizer`. Where the loss is scaled, steps that overflow count only if all samples of an epoch do. An
    activation inside a loop or a compiled function of a layer, as in recurrent ones, is not seen.

    Args:
        log_dir: Directory of the run; None to write nothing.
        sample_freq: Steps between two samples.
        histograms: Whether to make histograms.

    Attributes:
        report: A `GradientReport` of the last epoch with a sample: `verdict`, `reasons`, `layers`, a table when
            printed, `picture()`. None before.

    Raises:
        NotImplementedError: the backend is not TensorFlow.
        RuntimeError: the step was not made by `model.optimizer`, or by the training function of another callback.
        TypeError: `sample_freq` is no integer.
        ValueError: expected sample_freq >= 1; a compiled model; a model with trainable weights.

    Source:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010;
        Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063.

    Example:
        >>> import numpy as np
        >>> layers = [keras.layers.Dense(16, "sigmoid", name=f"hidden_{i}") for i in range(8)]
        >>> model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1, name="out")])
        >>> model.compile("sgd", "mse")
        >>> flow = GradientFlow(sample_freq=1)
        >>> history = model.fit(np.ones((8, 4)), np.ones(8), verbose=0, callbacks=[flow])
        >>> flow.report.verdict
        'vanishing'
    """

    def __init__(self, log_dir=None, sample_freq=10, histograms=True):
        super().__init__()
        owner = type(self).__name__
        expect_integer(owner, sample_freq=sample_freq)
        expect(sample_freq >= 1, owner, "sample_freq >= 1", sample_freq=sample_freq)
        backend = keras.backend.backend()
        if backend != "tensorflow":
            raise NotImplementedError(f"{owner}: expected the backend tensorflow; got backend={backend!r}.")
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        self.sample_freq, self.histograms = sample_freq, histograms
        self.report = None
        self._step = self._wanted = self._writer = None
        self._first = self._batches = self._next = 0
        self._samples, self._norms = [], deque(maxlen=REMEMBERED)

    def on_train_begin(self, logs=None):
        """Begin to watch the model."""
        owner, remedy = type(self).__name__, "Call model.compile(...) first."
        compiled = bool(getattr(self.model, "compiled", False))
        expect(compiled, owner, "a compiled model", remedy, compiled=compiled)
        self._attached = self._seen = False
        if self.log_dir is not None:
            self._writer = GradientWriter(os.path.join(self.log_dir, "gradients"))

    def _attach(self):
        """Take the place of the training function."""
        model = self.model
        self._layers, self._paths = _layout(model)
        variables = [v for named in self._layers.values() for v in named.values()]
        expect(bool(variables), type(self).__name__, "a model with trainable weights", trainable_weights=0)
        model.make_train_function()
        if model.train_function is self._step:
            # After a `fit` that was interrupted.
            model.train_function = self._step.plain
        self._watched = watched_layers(model)
        if self._step is None or not self._step.is_for(model, variables, self._watched):
            self._step = RecordedStep(model, variables, self._watched, self.histograms)
        model.train_function = self._step
        self._attached = True

    def on_epoch_begin(self, epoch, logs=None):
        """Begin a report."""
        self._first, self._samples, self._wanted = self._batches, [], None

    def on_train_batch_begin(self, batch, logs=None):
        """Let the step be recorded, if its turn has come."""
        # Another callback may have had the training function made anew, with other trainable weights.
        if not self._attached or not isinstance(self.model.train_function, RecordedStep):
            if not self.model.built and not self._seen:
                return  # A model that its first step builds has no weights yet.
            self._attach()
        first = self._first + batch
        position = max(self._next - first, 0)
        if position < self._step.steps_per_execution:
            position += steps_to_update(self.model.optimizer, position)
            if position < self._step.steps_per_execution:
                self._wanted = first + position
                self._step.record(position)

    def on_train_batch_end(self, batch, logs=None):
        """Keep what was recorded."""
        self._batches, self._seen = self._first + batch + 1, True
        if self._wanted is None:
            return
        number, self._wanted = self._wanted, None
        found = self._step.read()
        if found is None:
            # Where the data end within steps_per_execution, there may be no such step.
            ended = self._step.traced and self._step.steps_per_execution > 1
            remedy = "Let train_step call optimizer.apply, and use one GradientFlow at a time."
            expect(ended, type(self).__name__, "a step made by model.optimizer", remedy, RuntimeError, step=number)
            return
        self._next = number + self.sample_freq
        rows = iter(found[0])
        statistics = {path: {name: decoded(next(rows)) for name in named} for path, named in self._layers.items()}
        sample = GradientSample(number, statistics, dict(zip(self._watched, found[1].tolist(), strict=True)))
        self._samples.append(sample)
        if self._writer is not None:
            self._writer.sample(sample, {path: kind for path, (_, _, kind) in self._watched.items()})

    def on_epoch_end(self, epoch, logs=None):
        """Sum up."""
        samples = self._samples
        if isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            # It finds its scale by gradients that are not finite, and skips those steps.
            samples = [sample for sample in samples if math.isfinite(sample.gradient_norm)] or samples
        if samples:
            kinds = {path: kind for path, (_, _, kind) in self._watched.items()}
            self.report = report(samples, self._paths, kinds, self._norms)
            self._norms += self.report.norms
            if self._writer is not None:
                self._writer.report(self.report)

    def on_train_end(self, logs=None):
        """Give the training function back, and close the file."""
        if self.model.train_function is self._step:
            self.model.train_function = self._step.plain
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _layout(model):
    """Return the trainable variables by path of a layer and name, and what the verdict compares by path.

    The paths of the second are all that are reported, in the order of the parts of the model.
    """
    trainable = {id(variable) for variable in model.trainable_variables}
    layers = {}
    for path, variables in weights_by_layer(model).items():
        named = {}
        for variable in variables:
            if id(variable) in trainable:
                named[variable.name if variable.name not in named else f"{variable.name}_{len(named)}"] = variable
        if named:
            layers[path] = named
    order = {path: i for i, path in enumerate(parts_by_path(model))}

    def place(path):
        while path not in order and path:
            path = path.rpartition("/")[0]
        return order.get(path, 0)

    compared = {}
    for path in sorted([*layers, *(path for path in watched_layers(model) if path not in layers)], key=place):
        named = layers.get(path, {})
        compared[path] = {name for name, v in named.items() if len(v.shape) > 1}
    if not any(compared.values()):
        compared = {path: set(layers.get(path, ())) for path in compared}
    return layers, compared
