"""Models that are trained again and again from new weights."""

import contextlib
import functools
import inspect
import random

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.diagnostics.ordered_batches import Trainer, predict


class Replicates:
    """What a function builds, trained and asked for predictions by seeds.

    Keras models are built for each seed, but a single one is trained: it takes the weights of the others, and its
    optimizer starts anew. It is traced and compiled once.

    Args:
        owner: Name of the function that asks.
        build_fn: Function that returns a new compiled model, or an estimator with `fit` and `predict`.
        train: Function of the model, the parts of the data and a seed that trains, or None.
        epochs: Passes over the data.
        batch_size: Samples of a batch.
        reuse: Whether to train one model for all.
    """

    def __init__(self, owner, build_fn, train, epochs, batch_size, reuse):
        self.owner, self.build_fn, self.train, self.reuse = owner, build_fn, train, reuse
        self.epochs, self.batch_size = epochs, batch_size
        self.last, self.model, self.slots, self.trainer = None, None, None, None

    def predictions(self, data, x_test, seed, orders):
        """Return what the model predicts, begun from one seed and trained once for each seed of `orders`."""
        found, values = [], None
        for order in orders:
            if values is None:
                model = self._new(seed, data[0])
                if self.reuse and isinstance(model, keras.Model):
                    values = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
                    self.model = self.model or model
            if values is not None:
                model = self.model
                self._begin(values)
            self._fit(model, data, seed, order)
            found.append(predict(model, x_test) if isinstance(model, keras.Model) else model.predict(x_test))
        return found

    def _new(self, seed, x):
        with seeded(seed):
            model = with_seed(self.build_fn, seed)()
            expect(model is not self.last, self.owner, "build_fn to return a new model each time", model=model)
            self.last = model
            if isinstance(model, keras.Model) and not model.built:
                model(keras.tree.map_structure(lambda a: ops.convert_to_tensor(a[:1]), x))
        if isinstance(model, keras.Model):
            self._expect_regression(model)
        else:
            can = hasattr(model, "fit") and hasattr(model, "predict")
            expect(can, self.owner, "build_fn to return a model with fit and predict", error=TypeError, model=model)
            remedy = "The decomposition holds for squared loss: pass a regressor."
            classifies = hasattr(model, "predict_proba") or hasattr(model, "classes_")
            expect(not classifies, self.owner, "no classifier", remedy, model=type(model).__name__)
        return model

    def _expect_regression(self, model):
        compiled = bool(getattr(model, "compiled", False))
        expect(compiled, self.owner, "a compiled model", "Compile it in build_fn.", compiled=compiled)
        for loss in keras.tree.flatten(model.loss):
            kind = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
            classifies = any(word in kind.lower() for word in ("crossentropy", "hinge"))
            remedy = "The decomposition holds for squared loss: train classifiers by the mse of one-hot labels."
            expect(not classifies, self.owner, "no loss of a classification", remedy, loss=kind)
        shared = self.model is not None and {id(v) for v in self.model.variables} & {id(v) for v in model.variables}
        expect(not shared, self.owner, "build_fn to make new weights each time", model=model.name)
        if self.model is not None:
            first, shapes = ([tuple(v.shape) for v in m.variables] for m in (self.model, model))
            rule = "build_fn to make the same weights each time"
            expect(first == shapes, self.owner, rule, "Or pass reuse=False.", shapes=shapes, first=first)

    def _begin(self, values):
        """Give the model that is trained the weights of another, and its optimizer the state it began with."""
        strategy = getattr(self.model, "distribute_strategy", None)
        with strategy.scope() if strategy is not None else contextlib.nullcontext():
            optimizer = self.model.optimizer
            if self.slots is None:
                optimizer.build(self.model.trainable_variables)
                self.slots = [np.array(ops.convert_to_numpy(v)) for v in optimizer.variables]
            for variable, value in zip(self.model.variables, values, strict=True):
                variable.assign(value)
            for variable, value in zip(optimizer.variables, self.slots, strict=True):
                variable.assign(value)

    def _fit(self, model, data, seed, order):
        if self.train is not None:
            self.train(model, *data, order)
        elif isinstance(model, keras.Model):
            if self.trainer is None or self.trainer.model is not model:
                self.trainer = Trainer(model, self.batch_size, self.epochs)
            self.trainer(data, order)
        else:
            places = np.random.default_rng(order).permutation(len(keras.tree.flatten(data)[0]))
            with seeded(seed):  # An estimator draws its first weights now.
                model.fit(*keras.tree.map_structure(lambda a: a[places], data))


def with_seed(function, seed):
    """Return the function with its argument `seed`, or else the first that has to be given, bound to the seed."""
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # Of some functions in C, there is none.
        return function
    if "seed" in parameters:
        return functools.partial(function, seed=seed)
    given = any(p.kind in places and p.default is p.empty for p in parameters.values())
    return functools.partial(function, seed) if given else function


@contextlib.contextmanager
def seeded(seed):
    """Seed Python's and NumPy's draws, from which Keras takes the seeds of layers, and give both their state back."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
