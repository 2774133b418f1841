"""Boosting: weak learners, each for what those before it have wrong."""

import random

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks.models.boosting.arguments import check_arguments, check_outputs, expect_count
from keras_kicks.models.boosting.data import split, whole
from keras_kicks.models.boosting.rounds import ALGORITHMS, CLASSIFIERS, Rounds
from keras_kicks.models.boosting.stacked_members import StackedMembers
from keras_kicks.models.boosting.weak_learner import WeakLearner
from keras_kicks.models.known_shape import build_by_shape, output_shape, symbols


@keras.saving.register_keras_serializable(package="keras_kicks")
class Boosting(keras.Model):
    """Trains weak learners one after the other, each on what those before it have wrong.

        "samme"     F(x) = votes of the learners; weight a_m = rate (log((1 - e_m) / e_m) + log(K - 1)) with e_m the
                    weighted share of wrong labels; a wrong sample weighs exp(a_m) times as much in the next round
        "samme.r"   the same by the learners' probabilities p: F(x) = rate sum_m of log p, and a sample weighs the more
                    the less probable its label is; for two classes the Real AdaBoost, and a_m = rate
        "r2"        F(x) = weighted median of the learners; a_m = rate log((1 - e_m) / e_m) with e_m the weighted mean
                    of their losses; the less a sample has lost, the less it weighs in the next round
        "gradient"  F(x) = F_0 + sum_m a_m learner_m(x); each learner is trained on the negative gradient of the loss,
                    and a_m = rate times the step along it that makes the loss least

    A learner is any Keras model, by its own `fit`. It is compiled once: a round only gives it new first weights and a
    new optimizer. The members are kept in stacked weights of this one model, which runs them all at once, is saved
    whole and can be exported. `fit` ends with `n` members, or before them when a learner is perfect or of no use
    (`stop_reason` says it), or when a callback stops it, as `keras.callbacks.EarlyStopping("val_error", mode="min")`
    does: for callbacks, a round is an epoch of one batch. Another `fit` goes on where the last ended, also of a loaded
    model; set `n` higher for more members. That is the run without a break: first weights, drawn samples and the order
    of batches follow from `seed` and the number of the round. Learners made under a strategy of `tf.distribute` train
    on its replicas. They, learners that run eagerly and those with a `fit` of their own take the order of batches from
    Keras. Members are added up in float32, or in float64 if learners compute in it.

    Args:
        build_fn: Function without arguments that returns a new learner; or a model, which is made again from its
            config. Of a loaded ensemble it is the latter, so that learners begin with what their initializers draw.
            For "samme" a learner has K >= 2 outputs, of which the largest is its class; for "samme.r" these are
            probabilities; for "r2" it has one output.
        n: Number of members, 1 or more.
        algorithm: "samme" or "samme.r" for classes, "r2" or "gradient" for numbers.
        boosting_loss: For "r2" "linear" (the default), "square" or "exponential"; for "gradient" "squared_error" (the
            default), "absolute_error" or "huber". The learner's own loss is that of `compile`.
        learning_rate: Factor of each member's weight, > 0.
        subsample: Share of the samples that a learner of "gradient" is trained on, in (0, 1], drawn in each round.
        resample: For all but "gradient": draw the samples of a round by their weights, instead of passing these on.
        huber_quantile: Quantile of the residuals from which on "huber" counts them as outliers, in (0, 1).
        seed: Integer for first weights and drawn samples; None for any, which is kept.
        name: Name of the model.
        **kwargs: Base model arguments.

    Call arguments:
        inputs: What a learner takes.

    Returns:
        Probabilities of shape (batch, K) for "samme": the softmax of the decision over K - 1, as scikit-learn takes
        it; for "samme.r" the softmax of F. Otherwise the shape of a learner's output.

    Raises:
        TypeError: `build_fn` is no function or returns no Keras model; a number is none.
        ValueError: expected n >= 1; a known algorithm and one of its losses; learning_rate > 0; 0 < subsample <= 1;
            a learner with the outputs that the algorithm needs, and without layers that were adapted to a vocabulary or
            to bins; in `fit` fewer than n members, labels that fit them, sample weights >= 0 that are not all zero, a
            compiled learner whose fit takes sample weights, finite losses and outputs of it, and a first learner that
            is better than chance.

    Source:
        Zhu, Zou, Rosset and Hastie, "Multi-class AdaBoost", 2009; Drucker, "Improving regressors using boosting
        techniques", 1997; Friedman, "Greedy function approximation: a gradient boosting machine", 2001, algorithm 1,
        and "Stochastic gradient boosting", 2002. Departures: Drucker draws the samples by their weights
        (resample=True); the weight of a perfect learner is 1, as scikit-learn has it, and not infinite.

    Example:
        >>> from keras_kicks.models import DecisionStump
        >>> x = np.arange(8.0)[:, None]
        >>> boosting = Boosting(lambda: DecisionStump(num_classes=2), n=3, seed=0)
        >>> history = boosting.fit(x, np.array([0, 0, 1, 1, 1, 0, 0, 0]), verbose=0)
        >>> [round(error, 3) for error in history.history["error"]]
        [0.25, 0.375, 0.0]
        >>> boosting.predict(x, verbose=0).argmax(axis=1).tolist()
        [0, 0, 1, 1, 1, 0, 0, 0]
    """

    def __init__(
        self,
        build_fn,
        n,
        algorithm="samme",
        boosting_loss=None,
        learning_rate=1.0,
        subsample=1.0,
        resample=False,
        huber_quantile=0.9,
        seed=None,
        name="boosting",
        **kwargs,
    ):
        owner = type(self).__name__
        boosting_loss = check_arguments(
            owner,
            n=n,
            algorithm=algorithm,
            boosting_loss=boosting_loss,
            learning_rate=learning_rate,
            subsample=subsample,
            resample=resample,
            huber_quantile=huber_quantile,
            seed=seed,
        )
        learner = WeakLearner(owner, build_fn)
        kwargs.setdefault("dtype", learner.model.dtype_policy)
        super().__init__(name=name, **kwargs)
        # The learner casts its inputs itself.
        self.autocast = False
        self._learner = learner
        self._n = int(n)
        self.algorithm = algorithm
        self.boosting_loss = boosting_loss
        self.learning_rate = float(learning_rate)
        self.subsample = float(subsample)
        self.resample = bool(resample)
        self.huber_quantile = float(huber_quantile)
        self.seed = random.randrange(2**31) if seed is None else int(seed)
        self.stop_reason = None
        # Callbacks of Keras look at it, also where no learner has one.
        self.optimizer = None
        self.members = StackedMembers(learner)

    @property
    def n(self):
        """Number of members that `fit` ends with; may be set to another, not less than there are."""
        return self._n

    @n.setter
    def n(self, n):
        owner = type(self).__name__
        expect_count(owner, n)
        if self.built:
            there = self.members.size()
            expect(n >= there, owner, "n to be no less than the members there are", n=n, members=there)
            self.members.resize(int(n))
            # Compiled functions hold the weights that were.
            self.train_function = self.test_function = self.predict_function = None
        self._n = int(n)

    @property
    def estimator_weights(self):
        """Weight of each member there is, as an array."""
        return self._kept("estimator_weights")

    @property
    def estimator_errors(self):
        """Error of each member there is, as an array."""
        return self._kept("estimator_errors")

    def _kept(self, name):
        if not self.built:
            return np.zeros(0, "float32")
        return np.array(ops.convert_to_numpy(getattr(self.members, name)))[: self.members.size()]

    def build(self, input_shape):
        """Build the learner, and create the weights of n members."""
        build_by_shape(self._learner.model, input_shape)
        self._shapes = input_shape
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        self.members.create(self.n, self._output_shape(input_shape)[1:], wide)
        self.built = True

    def call(self, inputs):
        """Run all members, and put their outputs together."""
        outputs = ops.cast(self.members(inputs), self.members.start.dtype)
        numbers = (self.members.estimator_weights, self.members.start)
        combined = ALGORITHMS[self.algorithm][2](outputs, *(ops.convert_to_tensor(v) for v in numbers))
        return ops.cast(combined, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the shape of a learner's output."""
        return self._output_shape(input_shape)

    def _output_shape(self, input_shape):
        shape = output_shape(self._learner.model, input_shape)
        return check_outputs(type(self).__name__, self.algorithm, shape)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=False):
        """Return the loss of the ensemble: for classes the cross-entropy of its probabilities, whatever a learner's."""
        if self.algorithm in CLASSIFIERS:
            rank = len(y.shape)
            one_hot = rank == 2 and y.shape[-1] == y_pred.shape[-1]
            kind = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
            return kind()(y, y_pred, sample_weight=sample_weight)
        if self.loss is None:
            return keras.losses.MeanSquaredError()(y, y_pred, sample_weight=sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        steps_per_epoch=None,
        validation_steps=None,
        rounds=None,
    ):
        """Train learners until there are n members.

        Args:
            x: As in `keras.Model.fit`. The data are put together: every sample is weighed in each round.
            y: Class ids or one-hot rows for classes; numbers in the shape of the learner's outputs otherwise.
            batch_size: Of the learner's `fit`.
            epochs: Epochs of the learner in each round.
            verbose: 0, or 1 or 2 for what the rounds find.
            callbacks: As in `keras.Model.fit`, with a round for an epoch of one batch.
            validation_split: Share of the last samples to validate with.
            validation_data: Data to validate with, as in `keras.Model.fit`.
            shuffle: Of the learner's `fit`.
            class_weight: None or a dict of weights by class id.
            sample_weight: None or the first weight of each sample, >= 0.
            steps_per_epoch: Batches to take from an endless `x`.
            validation_steps: Batches to take from endless validation data.
            rounds: Rounds to run now, or None for all that are left.

        Returns:
            A `keras.callbacks.History` of the rounds: "error" of the ensemble so far, and "val_error" (weighted share
            of wrong labels for classes, mean squared error for "r2", mean loss for "gradient"), "estimator_weight" and
            "estimator_error".
        """
        owner = type(self).__name__
        expect_integer(owner, epochs=epochs)
        expect(epochs >= 1, owner, "epochs >= 1", epochs=epochs)
        done = self.members.size() if self.built else 0
        expect(done < self.n, owner, "fewer than n members", "Set n higher to go on.", members=done, n=self.n)
        if rounds is not None:
            expect_count(owner, rounds, "rounds")
        data = whole(owner, x, y, sample_weight, steps_per_epoch)
        expect(data[1] is not None, owner, "labels", y=None)
        validation = None
        if validation_data is not None:
            parts = validation_data if isinstance(validation_data, (tuple, list)) else [validation_data]
            validation = whole(owner, *parts, steps=validation_steps)
        elif validation_split:
            data, validation = split(owner, validation_split, *data)
        self._learner.build(data[0])
        shape = keras.tree.map_structure(lambda a: (None, *a.shape[1:]), data[0])
        if not self.built:
            self.build(shape)
        weighs = self._learner.compile_like(self)
        fitting = {"batch_size": batch_size, "epochs": epochs, "shuffle": shuffle}
        outputs = self._output_shape(shape)[1:]
        state = Rounds(self, self._learner, outputs, data, validation, class_weight, weighs, fitting)
        state.replay()
        return self._run(state, done, self.n if rounds is None else min(self.n, done + rounds), verbose, callbacks)

    def _run(self, state, first, last, verbose, callbacks):
        """Run rounds, with callbacks."""
        verbose = 1 if verbose == "auto" else verbose
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(
                callbacks, add_history=True, add_progbar=verbose != 0, verbose=verbose, epochs=last, steps=1, model=self
            )
        self.stop_training, self.stop_reason, logs = False, None, {}
        callbacks.on_train_begin()
        for place in range(first, last):
            callbacks.on_epoch_begin(place)
            callbacks.on_train_batch_begin(0)
            found, self.stop_reason = state.run(place)
            if found is not None:
                logs = found
                callbacks.on_train_batch_end(0, {k: v for k, v in logs.items() if not k.startswith("val_")})
                callbacks.on_epoch_end(place, logs)
            if self.stop_training:
                self.stop_reason = "a callback has stopped it"
            if self.stop_reason is not None:
                break
        callbacks.on_train_end(logs)
        if verbose and self.stop_reason is not None:
            print(f"{type(self).__name__}: ended, since {self.stop_reason}.")
        return self.history

    def staged_predict(self, x):
        """Yield what `predict` returned, had the ensemble ended with its first member, its second, and so on."""
        self._expect_members()
        x = whole(type(self).__name__, x)[0]
        start = np.array(ops.convert_to_numpy(self.members.start), "float64")
        running = ALGORITHMS[self.algorithm][1](start, len(keras.tree.flatten(x)[0]))
        for values, weight in zip(self.members.read(), self.estimator_weights, strict=True):
            self._learner.load(values)
            running.add(self._learner.outputs(x), float(weight))
            yield running.value().astype(self.members.start.dtype)

    def predict(self, *args, **kwargs):
        """Return the outputs, as `keras.Model.predict` does."""
        self._expect_members()
        return super().predict(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """Return loss and metrics, as `keras.Model.evaluate` does."""
        self._expect_members()
        return super().evaluate(*args, **kwargs)

    def _expect_members(self):
        there = self.members.size() if self.built else 0
        expect(there > 0, type(self).__name__, "a member", "Call fit before.", members=there)

    def export(self, *args, **kwargs):
        """Write the model for serving, as `keras.Model.export` does."""
        self._expect_members()
        self(symbols(self._shapes))  # Keras exports what was called.
        return super().export(*args, **kwargs)

    def compile_from_config(self, config):
        """Compile as before; the optimizer is the learner's, and has no variables here."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def get_config(self):
        """Return the constructor arguments, with the learner's config for `build_fn`, and what it does not hold."""
        return {
            **super().get_config(),
            "build_fn": self._learner.config(),
            "statistics": self._learner.config_statistics(),
            "n": self.n,
            "algorithm": self.algorithm,
            "boosting_loss": self.boosting_loss,
            "learning_rate": self.learning_rate,
            "subsample": self.subsample,
            "resample": self.resample,
            "huber_quantile": self.huber_quantile,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Make the ensemble from `get_config`, without members."""
        learner = keras.saving.deserialize_keras_object(config["build_fn"], custom_objects=custom_objects)
        arguments = {name: value for name, value in config.items() if name != "statistics"}
        ensemble = cls(**{**arguments, "build_fn": learner})
        # None are known of layers that a model makes when it is built.
        ensemble._learner.statistics = config.get("statistics") or None
        return ensemble
