"""Short trainings, in an order of batches that is a function of a seed."""

import keras
import numpy as np


class OrderedBatches(keras.utils.PyDataset):
    """All batches of a training, each epoch in a new order that the seed alone decides.

    The epochs are one to Keras, which spends more on the begin of an epoch than on many small steps.

    Args:
        data: Tuple of arrays, or of structures of them: what `fit` takes, as rows of samples.
        batch_size: Samples of a batch; the last of an epoch has what is left.
        epochs: Passes over the data.
        seed: Seed of the orders: an integer or a sequence of them.
    """

    def __init__(self, data, batch_size, epochs, seed):
        super().__init__()
        self.data, self.batch_size, self.epochs, self.seed = data, batch_size, epochs, seed
        self.samples = len(keras.tree.flatten(data)[0])
        self.steps = -(-self.samples // batch_size)
        self.epoch, self.order = None, None

    def __len__(self):
        return self.epochs * self.steps

    def __getitem__(self, index):
        epoch, step = divmod(index, self.steps)
        if epoch != self.epoch:
            self.order = np.random.default_rng([*np.atleast_1d(self.seed), epoch]).permutation(self.samples)
            self.epoch = epoch
        rows = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        return keras.tree.map_structure(lambda array: array[rows], self.data)


def train(model, data, batch_size, epochs, seed):
    """Train a compiled model on all batches, without what `fit` spends on its begin: more than on a hundred steps."""
    batches = OrderedBatches(data, batch_size, epochs, seed)
    if _is_plain(model, "fit", "train_on_batch"):
        for number in range(len(batches)):
            model.train_on_batch(*batches[number])
    elif epochs:
        model.fit(batches, shuffle=False, verbose=0)


def predict(model, x, batch_size=1024):
    """Return the predictions of a model, likewise."""
    samples = len(keras.tree.flatten(x)[0])
    if not _is_plain(model, "predict", "predict_on_batch") or samples > batch_size:
        return model.predict(x, verbose=0)
    return model.predict_on_batch(x)


def _is_plain(model, *methods):
    """Return whether a model has Keras's methods, takes one step at a time, and has one replica."""
    strategy = getattr(model, "distribute_strategy", None)
    alone = strategy is None or strategy.num_replicas_in_sync == 1
    own = all(getattr(type(model), name) is getattr(keras.Model, name) for name in methods)
    return own and alone and getattr(model, "steps_per_execution", 1) == 1
