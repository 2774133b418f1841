"""One model that is trained over and over, from the beginning each time."""

import contextlib
import copy
import inspect
import random

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.models.boosting.compiled_epochs import CompiledEpochs
from keras_kicks.models.boosting.data import rows
from keras_kicks.models.boosting.statistics import same, set_statistics, statistics
from keras_kicks.models.other_values import expect_no_tables, other_values, refresh

# Samples to run at once where nothing else says how many.
AT_ONCE = 4096


class WeakLearner:
    """A model whose functions are compiled once; each round gives it new weights and a new optimizer.

    Args:
        owner: Name of the ensemble.
        build_fn: Function without arguments that returns a new Keras model, or a model to make again from its config.

    Attributes:
        model: The model.
        statistics: Statistics of normalization that each round begins with, of a model that was given; None for those
            that `build_fn` returns, or if they are not read yet.
    """

    def __init__(self, owner, build_fn):
        self._owner = owner
        self._given = isinstance(build_fn, keras.Model)
        if self._given:
            self.model, config = build_fn, build_fn.get_config()
            # A copy for each: Keras takes apart the config that it makes a functional model from.
            self._build_fn = lambda: type(build_fn).from_config(copy.deepcopy(config))
        else:
            rule = "build_fn to be a function that returns a keras model, or a keras model"
            expect(callable(build_fn), owner, rule, error=TypeError, build_fn=build_fn)
            self._build_fn = build_fn
            self.model = self._made()
        expect_no_tables(owner, self.model)
        self._compiled_itself = bool(self.model.compiled)
        self._has_own_fit = type(self.model).fit is not keras.Model.fit
        self._compiled_by = self._first_state = self.statistics = self._compiled_with = None
        self._forget_compiled()

    def _forget_compiled(self):
        self._run, self._epochs = None, CompiledEpochs(self.model)

    def _made(self):
        model = self._build_fn()
        rule, remedy = "build_fn to return a keras model", "Return the model at its end."
        expect(isinstance(model, keras.Model), self._owner, rule, remedy, TypeError, returned=type(model).__name__)
        return model

    def config(self):
        """Return the model as a config that it can be made from again."""
        config = keras.saving.serialize_keras_object(self.model)
        if not self._compiled_itself:
            config.pop("compile_config", None)
        return config

    def config_statistics(self):
        """Return the statistics of normalization, which that config does not hold, as lists."""
        known = statistics(self.model) if self.statistics is None else self.statistics
        return [[np.asarray(value).tolist() for value in of_layer] for of_layer in known]

    def build(self, x):
        """Build the model by some samples."""
        if not self.model.built:
            with self._scope():
                self.model(rows(x, slice(0, 1)))

    def compile_like(self, ensemble):
        """Compile the model as the ensemble is, unless it is compiled itself or needs no compiling."""
        wanted = ensemble.compiled and not self._compiled_itself and not (self._has_own_fit and ensemble.loss is None)
        names = ("optimizer", "loss", "jit_compile", "run_eagerly", "steps_per_execution")
        settings = tuple(getattr(ensemble, name) for name in names) if wanted else None
        if wanted and settings != self._compiled_by:
            self._compiled_by = settings
            with self._scope():
                self.model.compile(
                    type(ensemble.optimizer).from_config(ensemble.optimizer.get_config()),
                    ensemble.loss,
                    jit_compile=ensemble.jit_compile,
                    run_eagerly=ensemble.run_eagerly,
                    steps_per_execution=ensemble.steps_per_execution,
                )
            self._first_state = None
            self._forget_compiled()
        ready = self.model.compiled or self._has_own_fit
        remedy = "Call compile(optimizer, loss), or compile the model in build_fn."
        expect(ready, self._owner, "a compiled learner", remedy, compiled=False)
        parameters = inspect.signature(self.model.fit).parameters
        return "sample_weight" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def _scope(self):
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy.scope() if strategy is not None else contextlib.nullcontext()

    def weights(self):
        """Return the variables that make the model what it is in inference."""
        seeds = {id(v) for v in self.model.variables} - {id(v) for v in self.model.weights}
        return [v for v in self.model.variables if id(v) not in seeds]

    def begin(self, seed, x):
        """Draw first weights by a seed, and forget what the optimizer knows."""
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None:
            if self._first_state is None:
                with self._scope():
                    optimizer.build(self.model.trainable_variables)
                self._first_state = [np.array(ops.convert_to_numpy(v)) for v in optimizer.variables]
            for variable, value in zip(optimizer.variables, self._first_state, strict=True):
                variable.assign(value)
        if getattr(self.model, "fit_begins_anew", False):
            return
        if self._given and self.statistics is None:
            self.statistics = statistics(self.model)
        # Keras draws the seeds of initializers and of layers from Python's generator.
        before = random.getstate()
        try:
            random.seed(seed)
            fresh = self._made()
            if not fresh.built:
                fresh(rows(x, slice(0, 1)))
        finally:
            random.setstate(before)
        old, new = self.model.variables, fresh.variables
        shapes = [[tuple(v.shape) for v in variables] for variables in (old, new)]
        rule, remedy = "build_fn to return the same architecture every time", "Let the data of a round vary instead."
        expect(shapes[0] == shapes[1], self._owner, rule, remedy, first=shapes[0], now=shapes[1])
        for variable, value in zip(old, new, strict=True):
            variable.assign(np.array(ops.convert_to_numpy(value)))
        if self.statistics is not None:
            set_statistics(self.model, self.statistics)
        self._refresh()

    def _refresh(self):
        """Let normalization see that its variables were set; what was compiled has its statistics as constants."""
        refresh(self.model)
        found = statistics(self.model)
        if self._compiled_with is not None and not same(found, self._compiled_with):
            self._forget_compiled()
            self.model.train_function = self.model.predict_function = None
        self._compiled_with = found

    def fit(self, x, y, weights, places, rng, batch_size, epochs, shuffle):
        """Train on the samples at these places, None for all; return the losses that are known.

        Args:
            x: Inputs, whole.
            y: Labels, whole.
            weights: None or the weights of all samples.
            places: None or indices.
            rng: A NumPy generator, for the order of the batches.
            batch_size: None, or samples of a batch.
            epochs: Epochs.
            shuffle: Whether each epoch has an order of its own.
        """
        if self._epochs.fits():
            order = np.arange(len(y)) if places is None else places
            orders = [rng.permutation(order) if shuffle else order for _ in range(epochs)]
            data = keras.tree.map_structure(_tensor, (x, y, weights), none_is_leaf=False)
            return [self._epochs.run(*data, orders, min(batch_size or 32, len(order)))]
        if places is not None:
            x, y, weights = rows(x, places), y[places], None if weights is None else weights[places]
        arguments = {"batch_size": batch_size, "epochs": epochs, "shuffle": shuffle, "verbose": 0}
        if weights is not None:
            arguments["sample_weight"] = weights
        accepted = inspect.signature(self.model.fit).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            arguments = {name: value for name, value in arguments.items() if name in accepted}
        history = self.model.fit(x, y, **arguments)
        return (getattr(history, "history", None) or {}).get("loss", [])

    def values(self):
        """Return the weights as they are."""
        return [np.array(ops.convert_to_numpy(v)) for v in self.weights()]

    def load(self, values):
        """Set the weights."""
        for variable, value in zip(self.weights(), values, strict=True):
            variable.assign(value)
        self._refresh()

    def call(self, values, x):
        """Return the output for x with other weights, in inference mode."""
        model, arguments = self.model, {}
        if "training" in inspect.signature(model.call).parameters:
            arguments["training"] = False
        weights = self.weights()
        kept = {id(v) for v in weights}
        # What is left are random states, which inference does not read.
        rest = [v for v in model.variables if id(v) not in kept]
        zeros = [ops.zeros(v.shape, v.dtype) for v in rest]
        with other_values(model, [*weights, *rest], [*values, *zeros]):
            return model(x, **arguments)

    def outputs(self, x):
        """Return the outputs for whole arrays, in float64; all rounds run one compiled function."""
        count = len(keras.tree.flatten(x)[0])
        parts = [rows(x, slice(i, i + AT_ONCE)) for i in range(0, count, AT_ONCE)]
        found = [_wide(self._predicted(part)) for part in parts]
        return np.concatenate(found).astype("float64")

    def _predicted(self, x):
        if keras.backend.backend() != "tensorflow":
            return self.model.predict_on_batch(x)
        if self._run is None:
            import tensorflow as tf

            model, arguments = self.model, {}
            if "training" in inspect.signature(model.call).parameters:
                arguments["training"] = False
            self._run = tf.function(lambda x: model(x, **arguments), autograph=False, reduce_retracing=True)
        return self._run(keras.tree.map_structure(_tensor, x))


def _wide(outputs):
    """Return outputs as an array of float32, or of float64."""
    return np.asarray(ops.convert_to_numpy(ops.cast(outputs, keras.backend.result_type(outputs.dtype, "float32"))))


def _tensor(x):
    """Return an array as `fit` takes it: numbers in the width that Keras computes in."""
    floating = x.dtype.kind == "f" and x.dtype != np.float16
    return ops.convert_to_tensor(x, keras.config.floatx() if floating else None)
