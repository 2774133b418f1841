"""Short trainings, in an order of batches that is a function of a seed."""

import keras
import numpy as np


class Trainer:
    """Trains a compiled model from whatever state it is in, without what `fit` spends on its begin and on each step.

    On TensorFlow all steps but the very first are one loop in a graph, traced once. Elsewhere, and for models that run
    eagerly, it is `train_on_batch`; with several replicas, several steps at a time, or a `fit` of the model's own, it
    is `fit`.

    Args:
        model: A compiled model.
        batch_size: Samples of a batch; the last of an epoch has what is left.
        epochs: Passes over the data, each in a new order.
    """

    def __init__(self, model, batch_size, epochs):
        self.model, self.batch_size, self.epochs = model, batch_size, epochs
        self.loop = None

    def __call__(self, data, seed):
        """Train on a tuple of arrays, or of structures of these, in the order of a seed."""
        samples = len(keras.tree.flatten(data)[0])
        rows, ends = ordered_rows(samples, self.batch_size, self.epochs, seed)
        if not is_plain(self.model, "fit", "train_on_batch", "make_train_function"):
            if self.epochs:
                self.model.fit(Batches(data, rows, ends), shuffle=False, verbose=0)
        elif self.epochs:
            self._steps(data, rows, ends)
            if isinstance(self.model.optimizer, keras.optimizers.Optimizer):
                # As `fit` ends: averages of weights take their place.
                self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def _steps(self, data, rows, ends):
        if keras.backend.backend() == "tensorflow" and not self.model.run_eagerly:
            self._in_a_graph(data, rows, ends)
        else:
            for i in range(len(ends) - 1):
                self.model.train_on_batch(*_taken(data, rows[ends[i] : ends[i + 1]]))

    def _in_a_graph(self, data, rows, ends):
        done = 0
        if self.loop is None:
            # What Keras makes at the first step, such as the variables of metrics, cannot be made in a loop.
            self.model.train_on_batch(*_taken(data, rows[: ends[1]]))
            self.loop, done = _loop(self.model.train_step), 1
        if done < len(ends) - 1:
            self.loop(keras.tree.map_structure(keras.ops.convert_to_tensor, data), rows, ends[done:])


def ordered_rows(samples, batch_size, epochs, seed):
    """Return the rows of all samples, epoch after epoch, and where batches end: the first 0, then each."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.zeros(0, "int64"), *(rng.permutation(samples) for _ in range(epochs))])
    inner = [np.append(np.arange(batch_size, samples, batch_size), samples) + e * samples for e in range(epochs)]
    return rows, np.concatenate([np.zeros(1, "int64"), *inner])


def predict(model, x, batch_size=1024):
    """Return the predictions of a model, without what `predict` spends on its begin where there are few."""
    samples = len(keras.tree.flatten(x)[0])
    if not is_plain(model, "predict", "predict_on_batch") or samples > batch_size:
        return model.predict(x, verbose=0)
    return model.predict_on_batch(x)


class Batches(keras.utils.PyDataset):
    """Batches of given rows; all epochs are one to Keras."""

    def __init__(self, data, rows, ends):
        super().__init__()
        self.data, self.rows, self.ends = data, rows, ends

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, index):
        return _taken(self.data, self.rows[self.ends[index] : self.ends[index + 1]])


def is_plain(model, *methods):
    """Return whether a model has Keras's methods, takes one step at a time, and has one replica."""
    strategy = getattr(model, "distribute_strategy", None)
    alone = strategy is None or strategy.num_replicas_in_sync == 1
    own = all(getattr(type(model), name) is getattr(keras.Model, name) for name in methods)
    return own and alone and getattr(model, "steps_per_execution", 1) == 1


def _taken(data, rows):
    return keras.tree.map_structure(lambda array: array[rows], data)


def _loop(train_step):
    import tensorflow as tf

    def step(i, data, rows, ends):
        batch = rows[ends[i] : ends[i + 1]]
        train_step(keras.tree.map_structure(lambda array: tf.gather(array, batch), data))
        return i + 1

    # No autograph: Keras does not use it on steps either.
    @tf.function(autograph=False, reduce_retracing=True)
    def loop(data, rows, ends):
        last = tf.shape(ends)[0] - 1
        tf.while_loop(lambda i: i < last, lambda i: [step(i, data, rows, ends)], [0], parallel_iterations=1)

    return lambda data, rows, ends: loop(data, tf.constant(rows), tf.constant(ends))
