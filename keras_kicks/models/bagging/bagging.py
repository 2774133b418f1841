"""Bagging: models that see bootstrap samples, and decide together."""

import inspect
import math
import random

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number, expect_seed
from keras_kicks.models.bagging.bootstrap_counts import (
    counts_by_content,
    counts_by_position,
    expect_both_classes,
    expect_votes,
)
from keras_kicks.models.bagging.combined_outputs import combined
from keras_kicks.models.bagging.counted_data import are_arrays, count_batches, input_shapes, join, sample_count, split
from keras_kicks.models.bagging.member_loss import added, weights_times
from keras_kicks.models.bagging.member_models import new_models, rebuilder
from keras_kicks.models.bagging.members import Members, alike
from keras_kicks.models.bagging.optimizer_reach import expect_separate
from keras_kicks.models.bagging.out_of_bag import member_outputs, out_of_bag_outputs, out_of_bag_results
from keras_kicks.models.bagging.plain_models import plain_ensemble, plain_member
from keras_kicks.models.cache_keys import architecture
from keras_kicks.models.known_shape import build_by_shape, output_shape
from keras_kicks.ops.replicas import replica_count


@keras.saving.register_keras_serializable(package="keras_kicks")
class Bagging(keras.Model):
    """Several models of one kind, each trained on a bootstrap sample, that predict their mean or vote.

        prediction(x) = mean over members of f_m(x)
        loss of member m = mean over the batch of c_im loss(y_i, f_m(x_i)),   c_m ~ Multinomial(N; 1/N, ..., 1/N)

    c_im is how often member m draws sample i: it is drawn once, and is the same in each epoch, in a later `fit` and
    after loading. It multiplies the user's sample or class weights. A member so learns as a model of its own would from
    the same batches with these weights.

    All members are trained at once, in one graph. Where they are alike their weights are stacked, with a first axis
    for the members, and so is what the optimizer keeps. Layers such as Dense, Embedding, activations, normalization and
    merging are then computed for all members by one operation (`tf.vectorized_map`). Members with other layers,
    convolutions, recurrent layers or Dropout for instance, run side by side in that graph; so do those whose loss or
    penalty has an operation that this map lacks, and all while they are trained with jit_compile=True.

    The loss that training shows is the mean of the members' losses on their bootstrap samples; metrics, and the loss of
    `evaluate`, are those of the combined prediction. Counts belong to a sample's place where data are arrays. In a
    `tf.data.Dataset`, a `PyDataset`, a generator or `train_on_batch` they are a function of its content, inputs and
    labels: independent Poisson numbers, the limit of the multinomial, which stay the same whatever the order. There,
    equal samples are drawn together, and what augments samples belongs into the model.

    With mixed_float16, an overflow in one member lets all of them skip the step.

    Args:
        build_fn: Function without arguments that returns a new Keras model in each call. What differs between these
            models is what an initializer draws: an initializer with a seed draws the same for each of them.
        n: Number of members, at least 1.
        bootstrap: True to draw as many samples as there are; a number in (0, 1] to draw that part of them; False for
            all members to see all samples once (a deep ensemble).
        combine: "mean", of values or probabilities, or "vote", for the shares of the members' votes.
        from_logits: Whether members return logits of classes. They are averaged as probabilities, and the output is
            logits again.
        stacked: Whether members share stacked variables; None for those that are alike. False for optimizers that work
            with norms of variables, such as LAMB or one with `clipnorm`.
        seed: Integer for the bootstrap; None to draw one.
        name: Name of the model.
        **kwargs: Base model arguments.

    Call arguments:
        inputs: What a member takes.
        training: Passed to the members.

    Returns:
        The combined output, of the shape, the kind and the dtype of a member's.

    Raises:
        TypeError: `build_fn` is no function; what it returns is no Keras model; `n` is no integer; other data than
            `fit` says.
        ValueError: expected n >= 1; a new model in each call of build_fn; models that learn as a keras.Model does,
            without a `fit`, `train_step` or `compute_loss` of their own; no layers that were adapted to a vocabulary
            or to bins; 0 < bootstrap <= 1; combine to be one of 'mean', 'vote'; outputs of one shape; members that are
            alike for stacked=True; the TensorFlow backend; both classes in the bootstrap sample of each member; an
            optimizer with a config, that works element by element for stacked weights, and variable by variable for
            others.

    Source:
        Breiman, "Bagging predictors", 1996, Machine Learning 24; Poisson counts: Oza and Russell, "Online bagging and
        boosting", 2001; without a bootstrap: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive
        uncertainty estimation using deep ensembles", 2017, arXiv:1612.01474.

    Example:
        >>> import numpy as np
        >>> def build():
        ...     return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
        >>> bagging = Bagging(build, 5, seed=1)
        >>> bagging.compile("adam", "mse")
        >>> x, y = np.random.default_rng(0).normal(size=(2, 40, 3))
        >>> history = bagging.fit(x, y[:, 0], verbose=0)
        >>> bagging.predict(x, verbose=0).shape, bagging.predict_members(x).shape, len(bagging.members())
        ((40, 1), (5, 40, 1), 5)
        >>> bagging.oob_predict(x).shape   # of each sample by those that did not see it
        (40, 1)
    """

    def __init__(
        self,
        build_fn,
        n,
        bootstrap=True,
        combine="mean",
        from_logits=False,
        stacked=None,
        seed=None,
        name="bagging",
        **kwargs,
    ):
        owner = type(self).__name__
        backend = keras.backend.backend()
        expect(backend == "tensorflow", owner, "the TensorFlow backend", backend=backend)
        expect_integer(owner, n=n)
        expect(n >= 1, owner, "n >= 1, since an ensemble has a member", n=n)
        if not isinstance(bootstrap, bool):
            expect_number(owner, bootstrap=bootstrap)
            expect(0 < bootstrap <= 1, owner, "0 < bootstrap <= 1", "Pass a part of the samples.", bootstrap=bootstrap)
        expect_choice(owner, ("mean", "vote"), combine=combine)
        expect_choice(owner, (None, True, False), stacked=stacked)
        expect_seed(owner, seed)
        models = new_models(owner, build_fn, int(n))
        kwargs.setdefault("dtype", models[0].dtype_policy)
        super().__init__(name=name, **kwargs)
        self.autocast = False
        self.n = int(n)
        self.bootstrap = bootstrap if isinstance(bootstrap, bool) else float(bootstrap)
        self.combine = combine
        self.from_logits = bool(from_logits)
        self.stacked = stacked
        # Python's generator: keras.utils.set_random_seed sets it, and nothing else is disturbed.
        self.seed = random.randrange(2**31) if seed is None else int(seed)
        # How many samples the counts were drawn for; saved, since out-of-bag predictions draw them again.
        self.drawn = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="drawn")
        self._hidden = _Hidden(models)
        self.member_weights = None
        if all(_is_known(model) for model in models):
            # Not by hand: Keras keeps the shape, and exports by it.
            self.build(models[0].input_shape)
        elif all(model.built for model in models):
            self._take_over()
            self.built = True

    def build(self, input_shape):
        """Build the members."""
        if self.member_weights is None:
            shape = split(input_shape)[0]
            for model in self._hidden.models:
                build_by_shape(model, shape)
            self._hidden.input_shape = shape
            self._take_over()
        self.built = True

    def _take_over(self):
        """Make the variables of the members this model's own."""
        owner, models = type(self).__name__, self._hidden.models
        shapes = {str(model.output_shape) for model in models if _is_known(model)}
        expect(len(shapes) <= 1, owner, "outputs of one shape", output_shapes=sorted(shapes))
        same = alike(models)
        rule, remedy = "members that are alike for stacked=True", "Pass stacked=None or False."
        expect(same or not self.stacked, owner, rule, remedy, stacked=self.stacked)
        self.member_weights = Members(models, same if self.stacked is None else self.stacked, name="members")
        # One stands for all, unless they draw by seeds of their own.
        self._hidden.models = models[:1] if same and len({architecture(model) for model in models}) == 1 else models

    def make_train_function(self, force=False):
        """Make the function that trains on batches, if the optimizer trains each member as it would train it alone.

        The check is here, since Keras does not compile a loaded model that has a `compile` of its own.
        """
        if self.built:
            self._expect_separate()
        return super().make_train_function(force)

    def _expect_separate(self):
        if self.optimizer is not None and self.optimizer is not self._hidden.checked and self.n > 1:
            expect_separate(type(self).__name__, self.optimizer, self.member_weights.stacked)
            self._hidden.checked = self.optimizer

    def call(self, inputs, training=None):
        """Return the combined output."""
        x, _ = split(inputs)
        ran = self.member_weights.run(x, training, lambda _, penalties, __: added(penalties))
        ran.keep_states()
        self.add_loss(ops.mean(ran.losses))
        return ran.map(self._combined)

    def _combined(self, outputs, weights=None):
        return combined(outputs, self.combine, self.from_logits, weights)

    @property
    def output_names(self):
        """Names of the outputs, as of the members; Keras asks for them where losses or metrics have names."""
        return self._hidden.models[0].output_names

    def compute_output_shape(self, input_shape):
        """Return the shape of a member's output."""
        return output_shape(self._hidden.models[0], split(input_shape)[0])

    def train_step(self, data):
        """Train all members on one batch."""
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, counts = split(x)
        if not self.built:
            self(x)
        self._expect_separate()
        rule, remedy = "batches with counts", "Train by fit or train_on_batch, or pass bootstrap=False."
        expect(counts is not None or self.bootstrap is False, type(self).__name__, rule, remedy, counts=counts)
        replicas = replica_count()

        def loss_of_member(y_pred, penalties, count):
            weight = weights_times(sample_weight, count, y_pred)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight, training=True)
            return loss + ops.cast(added(penalties) / replicas, loss.dtype)

        with tf.GradientTape() as tape:
            extra = None if counts is None else ops.transpose(ops.cast(counts, "float32"))
            ran = self.member_weights.run(x, True, loss_of_member, extra, self.jit_compile, self._of_metrics)
            # The gradient by a member's weights is that of its own loss.
            scaled = self.optimizer.scale_loss(ops.sum(ran.losses))
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        ran.keep_states()
        for variable, total in ran.tracked:
            variable.assign_add(total)
        tracker = next(metric for metric in self.metrics if metric.name == "loss")
        samples = ops.shape(keras.tree.flatten(x)[0])[0]
        tracker.update_state(ops.mean(ran.losses) * replicas, sample_weight=samples)
        return self.compute_metrics(x, y, ran.map(self._combined), sample_weight=sample_weight)

    def _of_metrics(self):
        return [variable for metric in self.metrics for variable in metric.variables]

    def fit(self, *args, **kwargs):
        """Train all members, as `keras.Model.fit` does.

        Args:
            *args: As in `keras.Model.fit`. Data are arrays, a batched `tf.data.Dataset` of dense tensors, a
                `keras.utils.PyDataset` or a generator; with bootstrap=False, whatever Keras takes.
            **kwargs: As in `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            TypeError: other data.
            ValueError: expected both classes in the bootstrap sample of each member (of arrays, by the name of the
                loss); labels of classes for combine='vote' (of arrays).
        """
        arguments = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        arguments.update(arguments.pop("kwargs", {}))
        x, owner = arguments.get("x"), type(self).__name__
        if not self.built and x is not None:
            shapes, arguments["x"] = input_shapes(x)
            x = arguments["x"]
            if shapes is not None:
                self.build(shapes)
        if self.combine == "vote":
            expect_votes(owner, arguments.get("y"), self.loss)
        if self.bootstrap is not False and x is not None:
            if are_arrays(x):
                samples = sample_count(owner, x)
                # Keras takes the last samples for validation.
                drawn = math.floor(samples * (1 - (arguments.get("validation_split") or 0.0)))
                counts = self._counts_of_places(samples, drawn)
                weight = arguments.get("sample_weight")
                seen = counts if weight is None or keras.tree.is_nested(weight) else _seen(counts, weight)
                expect_both_classes(owner, arguments.get("y"), seen, self.loss)
                self.drawn.assign(drawn)
                arguments["x"] = join(x, counts)
            else:
                arguments["x"] = self._with_counts(x)
        return super().fit(**arguments)

    def train_on_batch(self, x, y=None, **kwargs):
        """Train on one batch, as `keras.Model.train_on_batch` does; counts are a function of its contents."""
        if not self.built:
            self.build(input_shapes(keras.tree.map_structure(ops.convert_to_tensor, x))[0])
        if self.bootstrap is not False:
            arrays = keras.tree.map_structure(ops.convert_to_numpy, (x, y) if y is not None else (x,))
            x = join(x, self._counts_of_contents(arrays))
        return super().train_on_batch(x, y, **kwargs)

    def _counts_of_places(self, samples, drawn):
        """Return the counts of arrays: of the first samples, as many as were drawn for; others were never seen."""
        counts = counts_by_position(drawn, self.n, float(self.bootstrap), self.seed)
        return ops.convert_to_numpy(ops.pad(counts, [[0, samples - drawn], [0, 0]]))

    def _counts_of_contents(self, arrays):
        return counts_by_content(arrays, self.n, float(self.bootstrap), self.seed)

    def _with_counts(self, batches):
        return count_batches(type(self).__name__, batches, self.n, self._counts_of_contents)

    def bootstrap_counts(self):
        """Return how often each member drew each sample of the arrays that `fit` was given.

        Returns:
            int32 array of shape (samples, members); without samples before `fit`, or for other data.
        """
        drawn = self.samples_drawn()
        return self._counts_of_places(drawn, drawn)[:drawn] if drawn else np.zeros((0, self.n), "int32")

    def samples_drawn(self):
        """Return how many samples the counts were drawn for; 0 before a fit on arrays."""
        return int(ops.convert_to_numpy(self.drawn))

    def predict_members(self, x, batch_size=None):
        """Return what each member predicts.

        Its standard deviation over the first axis says how far the members differ.

        Args:
            x: As in `keras.Model.predict`.
            batch_size: As in `keras.Model.predict`.

        Returns:
            Array, or a structure of arrays, of shape (members, samples, ...).
        """
        return member_outputs(self, x, batch_size)

    def oob_predict(self, x, batch_size=None):
        """Return out-of-bag predictions: of each sample by those members that did not see it.

        Args:
            x: What `fit` was given: arrays of inputs in their order, or a `tf.data.Dataset` or `PyDataset` with labels.
            batch_size: As in `keras.Model.predict`.

        Returns:
            Array, or a structure of arrays; NaN for samples that all members saw.

        Raises:
            ValueError: expected a bootstrap; a fit on arrays before; as many samples as in `fit`.
        """
        return out_of_bag_outputs(self, x, batch_size)[0]

    def oob_evaluate(self, x, y, sample_weight=None, batch_size=None):
        """Return the loss and the metrics of out-of-bag predictions, an estimate of those of new data.

        Args:
            x: Arrays of inputs that `fit` was given.
            y: Their labels.
            sample_weight: As in `keras.Model.evaluate`.
            batch_size: As in `keras.Model.predict`.

        Returns:
            Dict of numbers, as `evaluate(return_dict=True)` returns, without what regularizers add. Samples that all
            members saw are left out.

        Raises:
            ValueError: expected a bootstrap; a fit on arrays before; as many samples as in `fit`.
        """
        return out_of_bag_results(self, x, y, sample_weight, batch_size)

    def members(self):
        """Return the members as plain Keras models with the values they have now; they share nothing with this one."""
        return [plain_member(self, member) for member in range(self.n)]

    def to_model(self):
        """Return a plain functional Keras model of the same predictions, which loads without this package.

        Raises:
            ValueError: expected members with known inputs.
        """
        return plain_ensemble(self)

    def get_config(self):
        """Return the constructor arguments; members in place of the function that makes them."""
        return {
            **super().get_config(),
            "build_fn": [keras.saving.serialize_keras_object(model) for model in self._hidden.models],
            "n": self.n,
            "bootstrap": self.bootstrap,
            "combine": self.combine,
            "from_logits": self.from_logits,
            "stacked": self.stacked,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Make the members of their configuration."""
        config = dict(config)
        return cls(rebuilder(config.pop("build_fn")), **config)


class _Hidden:
    """Holds models out of Keras's sight, which would take their variables for weights of this model."""

    def __init__(self, models):
        self.models = models
        self.input_shape = None
        self.predictors = {}
        self.checked = None


def _seen(counts, sample_weight):
    """Return the counts of samples, 0 for those without a weight."""
    weights = np.asarray(sample_weight).reshape(len(counts), -1)
    return counts * (weights != 0).any(axis=1, keepdims=True)


def _is_known(model):
    return bool(getattr(model, "outputs", None))
