"""A second training function of a model, which also keeps statistics of its gradients and activations."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_kicks.callbacks.gradient_statistics import WIDTH, rows
from keras_kicks.callbacks.watched_activations import share
from keras_kicks.ops.replicas import assign_all, sum_replicas
from keras_kicks.optimizers.functional_optimizer import dense, read


class RecordedStep:
    """Takes the place of `model.train_function`, and records one step when it is told to.

    Every other step is made by the function that was there before. The one that records is traced from the same
    `train_step`, while the optimizer's `apply` and the activations of layers are functions that keep what they see.

    Args:
        model: A built and compiled model on the TensorFlow backend.
        variables: The variables whose gradients are kept.
        activations: Dict of what `watched_layers` returns.
        histograms: Whether to keep histograms of the gradients.
    """

    def __init__(self, model, variables, activations, histograms=True):
        self.histograms = histograms
        self.model, self.variables, self.activations = model, list(variables), dict(activations)
        self.plain = model.train_function
        self.steps_per_execution = model.steps_per_execution
        model.make_train_function(force=True)
        self.recording = model.train_function
        model.train_function = self.plain
        self._rows = {id(variable): i for i, variable in enumerate(self.variables)}
        with model.distribute_strategy.scope():
            # One variable, for one transfer: the number of recorded steps, the rows and the shares.
            size = 1 + len(self.variables) * WIDTH + len(self.activations)
            self._kept = keras.Variable(np.zeros(size, "float32"), trainable=False)
            # The steps to make before the one that is recorded.
            self._ahead = keras.Variable(0, trainable=False, dtype="int32")
        self._seen = {}
        self._armed = False
        self._recorded = 0
        self.traced = False

    def is_for(self, model, variables, activations):
        """Whether it still fits a model that may have been compiled anew or changed."""
        same = [id(v) for v in variables] == list(self._rows) and activations == self.activations
        return same and model is self.model and model.train_function is self.plain

    def __call__(self, iterator):
        """Make the next step, or the next `steps_per_execution` of them."""
        if not self._armed:
            return self.plain(iterator)
        self._armed = False
        with self._watching():
            return self.recording(iterator)

    def record(self, position=0):
        """Record in the next call the step in this position of those that it makes."""
        if self.steps_per_execution > 1:
            self._ahead.assign(position)
        self._armed = True

    def read(self):
        """Return the rows of the variables and the shares of the activations, or None if no step was recorded."""
        self._armed = False
        kept = ops.convert_to_numpy(self._kept)
        if kept[0] == self._recorded:
            return None
        self._recorded = kept[0]
        rows, shares = np.split(kept[1:], [len(self.variables) * WIDTH])
        return rows.reshape(-1, WIDTH), shares

    @contextlib.contextmanager
    def _watching(self):
        """Let the optimizer and the layers tell what they compute."""
        with contextlib.ExitStack() as stack:
            optimizer = self.model.optimizer
            stack.enter_context(_attribute(optimizer, "apply", self._applied(optimizer, optimizer.apply)))
            for path, (layer, name, _) in self.activations.items():
                stack.enter_context(_attribute(layer, name, self._activated(path, getattr(layer, name))))
            self._seen = {}
            yield
        self._seen = {}

    def _activated(self, path, function):
        def activation(*args, **kwargs):
            y = function(*args, **kwargs)
            self._seen.setdefault(_replica(), {}).setdefault(path, []).append(y)
            return y

        return activation

    def _applied(self, optimizer, apply):
        def apply_and_record(grads, trainable_variables=None):
            grads = list(grads)
            variables = list(self.model.trainable_variables if trainable_variables is None else trainable_variables)
            pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None and id(v) in self._rows]
            scale = optimizer.scale_loss(1.0)
            old = [read(v) for _, v in pairs]
            result = apply(grads, trainable_variables)
            self._keep(pairs, old, scale)
            return result

        return apply_and_record

    def _keep(self, pairs, old, scale):
        """Assign the statistics of a step, if it is the one that is recorded."""
        self.traced = True
        seen = self._seen.pop(_replica(), {})
        seen = {path: [y for y in values if _is_here(y)] for path, values in seen.items()}

        def kept():
            rows, shares = self._statistics(pairs, old, scale, seen)
            return ops.concatenate([read(self._kept)[:1] + 1, ops.reshape(rows, (-1,)), shares])

        if self.steps_per_execution == 1:
            assign_all([self._kept], [kept()])
        else:
            ahead, before = read(self._ahead), read(self._kept)
            assign_all([self._kept, self._ahead], [ops.cond(ops.equal(ahead, 0), kept, lambda: before), ahead - 1])

    def _statistics(self, pairs, old, scale, seen):
        summed = sum_replicas([g for g, _ in pairs])
        variables = [v for _, v in pairs]
        gradients = [ops.cast(dense(g, v), "float32") / scale for g, v in zip(summed, variables, strict=True)]
        elements = [_elements(g, full) for g, full in zip(summed, gradients, strict=True)]
        found = dict.fromkeys(self._rows, ops.zeros(WIDTH))
        new = rows(gradients, old, [read(v) for v in variables], elements, self.histograms)
        found.update({id(variable): row for variable, row in zip(variables, new, strict=True)})
        shares = [
            share(layer, kind, seen[path]) if seen.get(path) else np.float32("nan")
            for path, (layer, _, kind) in self.activations.items()
        ]
        return ops.stack(list(found.values())), ops.stack(shares) if shares else ops.zeros(0)


@contextlib.contextmanager
def _attribute(owner, name, value):
    """Give an object another attribute for a while."""
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _elements(gradient, full):
    """Return the number of elements in those rows of a sparse gradient that are not 0; None of a dense one."""
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return None
    rows = ops.reshape(full, (full.shape[0], -1))
    return ops.sum(ops.cast(ops.any(rows != 0, axis=1), "float32")) * rows.shape[1]


def _replica():
    """Return what tells the replica that runs from the others."""
    import tensorflow as tf

    return id(tf.distribute.get_replica_context())


def _is_here(tensor):
    """Whether a tensor can be used where the optimizer is called: it is in no loop or function of its own."""
    import tensorflow as tf

    if tf.is_symbolic_tensor(tensor):
        return tensor.graph is tf.compat.v1.get_default_graph()
    return True
