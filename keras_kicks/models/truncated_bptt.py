"""Backpropagation through time that is cut every few steps."""

import contextlib

import keras

from keras_kicks._errors import expect, expect_choice, expect_integer
from keras_kicks.models.chunks import cut, run_chunks, run_pieces, steps_as_samples
from keras_kicks.models.known_shape import build_by_shape, known_shape, output_shape
from keras_kicks.models.recurrent_states import RecurrentStates
from keras_kicks.ops.keras_mask import get_mask
from keras_kicks.ops.replicas import replica_count


@keras.saving.register_keras_serializable(package="keras_kicks")
class TruncatedBPTT(keras.Model):
    """Trains a recurrent model on long sequences: the state flows on, the gradient goes back `k2` steps only.

    A sequence is taken in chunks of `k1` steps. For each of them the model goes through the last `k2` steps, from the
    states that it had before them, and the loss of the chunk is differentiated through those steps alone. Memory is
    that of k2 steps, however long the sequence. With k1 = k2 = steps it is backpropagation through time.

    The loss of a chunk is what `compile` says of its steps: a mean over them, as Keras takes it, whatever their
    number. With updates="chunk" the weights change after each chunk. With updates="sequence" the gradients of the
    chunks are averaged, each weighted by its steps that count (those a mask leaves), and applied once: the gradient
    of the loss of the whole sequence, but for what is cut. A chunk in which no step counts changes no weight.

    `evaluate` and `predict` go through the sequence in chunks too, and find what the model does; both begin with states
    of zero, and so does `fit`, unless `stateful`. The reported loss is the mean over the steps that count, and metrics
    see each step as a sample. Sample weights have the shape (batch, steps), or (batch,) for all steps of a sequence.

    Args:
        model: A model of inputs (batch, steps, ...), with any number of steps, to outputs (batch, steps, ...) whose
            recurrent layers return sequences and run forwards. Other layers must see each step by itself.
        k1: Steps of a chunk, >= 1.
        k2: Steps that the gradient goes back, a multiple of k1; k1 by default.
        updates: "chunk" or "sequence".
        stateful: Whether a batch begins with the states that the last batch of `fit` ended with, row by row, for text
            that is cut into batches; needs a fixed batch size. `reset_state` begins anew.
        resets: Whether the inputs are [x, resets], where `resets` of shape (batch, steps) is True at each step
            before which the states of that row are set to those of the begin.
        name: Name of the model.
        **kwargs: Base model arguments.

    Call arguments:
        inputs: What the model takes, or with `resets` a list of that and of the resets.
        training: Passed to the model.

    Returns:
        The output of the model for the whole sequence.

    Raises:
        TypeError: `model` is no Keras model; `k1` or `k2` no integer.
        ValueError: expected k1 >= 1; k2 a multiple of k1; a model with recurrent layers that can be cut in
            time and inputs of any number of steps; outputs, labels and inputs of the same number of steps, one or more;
            and a known one for k2 > k1 and jit_compile=True (where a second length makes TensorFlow forget the
            first); the TensorFlow backend; updates="sequence" on several replicas; losses that are means for
            updates="sequence"; a fixed batch size for `stateful`.
        tf.errors.InvalidArgumentError: for `stateful` another number of sequences than in the first batch; numbers of
            steps of inputs and labels that differ and are not known before.

    Source:
        Williams and Peng 1990: BPTT(h; h') with h = k2 and h' = k1. Departure: the steps before a chunk are run
        again, with the weights as they are then.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([
        ...     keras.Input((None, 3)), keras.layers.LSTM(4, return_sequences=True), keras.layers.Dense(1)])
        >>> tbptt = TruncatedBPTT(model, k1=10)
        >>> tbptt.compile("sgd", "mse")
        >>> history = tbptt.fit(np.ones((8, 95, 3)), np.zeros((8, 95, 1)), verbose=0)
        >>> int(tbptt.optimizer.iterations)
        10
    """

    def __init__(
        self, model, k1, k2=None, updates="chunk", stateful=False, resets=False, name="truncated_bptt", **kwargs
    ):
        owner = type(self).__name__
        expect(isinstance(model, keras.Model), owner, "a keras model", error=TypeError, model=model)
        backend = keras.backend.backend()
        expect(backend == "tensorflow", owner, "the TensorFlow backend", backend=backend)
        expect_integer(owner, k1=k1)
        expect(k1 >= 1, owner, "k1 >= 1", k1=k1)
        if k2 is not None:
            expect_integer(owner, k2=k2)
            expect(k2 >= k1 and k2 % k1 == 0, owner, "k2 to be a multiple of k1", k1=k1, k2=k2)
        expect_choice(owner, ("chunk", "sequence"), updates=updates)
        kwargs.setdefault("dtype", model.dtype_policy)
        super().__init__(name=name, **kwargs)
        self.autocast = False
        self.model = model
        self.k1 = int(k1)
        self.k2 = int(k2 or k1)
        self.updates = updates
        self.stateful = bool(stateful)
        self.resets = bool(resets)
        self.carried_states = []
        self._states = RecurrentStates(owner, model)
        if model.built:
            self._expect_any_length()
            shape = None if self.stateful or self.resets else known_shape(model)
            if shape is None:
                self.built = not self.stateful
            else:
                self.build(shape)

    def _expect_any_length(self):
        """Refuse a model whose inputs have a fixed number of steps."""
        shapes = [tuple(x.shape) for x in getattr(self.model, "inputs", None) or []]
        free = all(len(shape) < 2 or shape[1] is None for shape in shapes)
        remedy = "Make it with keras.Input((None, features))."
        expect(free, type(self).__name__, "a model whose inputs have any number of steps", remedy, inputs=shapes)

    def build(self, input_shape):
        """Build the model for any number of steps, and create the states that flow from batch to batch."""
        shape = self._split(input_shape)[0]
        if all(size is None or isinstance(size, int) for size in shape):
            build_by_shape(self.model, (None, None, *shape[2:]))
        self._expect_any_length()
        if self.stateful and not self.carried_states:
            batch = keras.tree.flatten(input_shape)[0]
            rule, remedy = "a fixed batch size for stateful=True", "Take a batch_size that divides the samples."
            expect(isinstance(batch, int), type(self).__name__, rule, remedy, input_shape=input_shape)
            self.carried_states = [
                self.add_weight(
                    shape=(batch, width), initializer="zeros", trainable=False, name=f"state_{k}", dtype=dtype
                )
                for k, (width, dtype) in enumerate(self._states.specs())
            ]
        self.built = True

    def reset_state(self):
        """Let the next batch of `fit` begin with states of zero."""
        for state in self.carried_states:
            state.assign(keras.ops.zeros(state.shape, dtype=state.dtype))

    def call(self, inputs, training=None):
        """Run the model on whole sequences."""
        x, resets = self._split(inputs)
        if resets is None:
            return self.model(x, training=training)
        batch = keras.ops.shape(keras.tree.flatten(x)[0])[0]
        return self._states.run(x, self._states.initial(batch), training, resets)[0]

    @property
    def output_names(self):
        """Names of the outputs, as of the model; Keras asks for them where losses or metrics have names."""
        return self.model.output_names

    def compute_output_shape(self, input_shape):
        """Return the shape of the model's output."""
        return output_shape(self.model, self._split(input_shape)[0])

    def _split(self, inputs):
        """Return what the model takes, and the resets or None; or the shapes of both."""
        if not self.resets:
            return inputs, None
        pair = isinstance(inputs, (list, tuple)) and len(inputs) == 2
        expect(pair, type(self).__name__, "inputs [x, resets] for resets=True", kind=type(inputs).__name__)
        return tuple(inputs)

    def train_step(self, data):
        """Train on one batch of sequences, chunk by chunk."""
        import tensorflow as tf

        self._expect_updates_possible()
        self._expect_means()
        weights = self.trainable_weights
        whole = self.updates == "sequence"
        sums = [tf.zeros_like(w.value) for w in weights] + [tf.zeros(())] if whole else []

        def learn(gradients, count, sums):
            """Change the weights, or add the gradients up."""
            if not whole:
                self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
                return sums
            added = zip(sums[:-1], gradients, strict=True)
            return [*(s + tf.cast(count, s.dtype) * tf.convert_to_tensor(g) for s, g in added), sums[-1] + count]

        states, sums = self._through(data, learn, sums)
        if whole:
            mean = (tf.math.divide_no_nan(s, tf.cast(sums[-1], s.dtype)) for s in sums[:-1])
            self.optimizer.apply_gradients(zip(mean, weights, strict=True))
        for variable, state in zip(self.carried_states, states, strict=False):
            variable.assign(state)
        return self.get_metrics_result()

    def _expect_updates_possible(self):
        replicas = replica_count()
        expect(
            replicas == 1 or self.updates == "sequence",
            type(self).__name__,
            'updates="sequence" on several replicas',
            "TensorFlow cannot exchange gradients within a loop.",
            updates=self.updates,
            replicas=replicas,
        )

    def _expect_means(self):
        """Refuse losses whose chunks cannot be averaged to that of the sequence."""
        if self.updates == "sequence":
            reductions = {getattr(loss, "reduction", "mean") for loss in keras.tree.flatten(self.loss)}
            means = reductions <= {"mean", "sum_over_batch_size"}
            rule, remedy = 'losses that are means for updates="sequence"', 'Take reduction="sum_over_batch_size".'
            expect(means, type(self).__name__, rule, remedy, reductions=sorted(map(str, reductions)))

    def test_step(self, data):
        """Evaluate one batch of sequences, chunk by chunk."""
        self._through(data)
        return self.get_metrics_result()

    def predict_step(self, data):
        """Return the outputs for one batch of sequences, which are computed piece by piece."""
        import tensorflow as tf

        x, resets = self._split(keras.utils.unpack_x_y_sample_weight(data)[0])
        structure = []

        def piece(states, tensors):
            y, states = self._states.run(tensors[0], list(states), False, tensors[1])
            self._expect_steps(y, self.k1)
            structure.append(y)
            return states, keras.tree.flatten(y)

        first = tuple(self._states.initial(tf.shape(keras.tree.flatten(x)[0])[0]))
        outputs = run_pieces(piece, first, (x, resets), self._length(x, None), self.k1)
        return keras.tree.pack_sequence_as(structure[0], outputs)

    def _through(self, data, learn=None, sums=()):
        """Go through a batch of sequences and learn from each chunk; return the last states and the sums."""
        import tensorflow as tf

        inputs, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, resets = self._split(inputs)
        if not self.built:
            self.build(keras.tree.map_structure(lambda tensor: tuple(tensor.shape), inputs))
        length = self._length(x, y)
        sample_weight = keras.tree.map_structure(lambda weight: _for_steps(weight, length), sample_weight)
        training = learn is not None
        before = self.k2 // self.k1 - 1 if training else 0
        possible = before == 0 or isinstance(length, int) or not self.jit_compile
        rule = "a known number of steps for k2 > k1 and jit_compile=True"
        expect(possible, type(self).__name__, rule, k1=self.k1, k2=self.k2)
        rows, checked = tf.shape(keras.tree.flatten(x)[0])[0], contextlib.nullcontext()
        if training and self.carried_states:
            first = [tf.convert_to_tensor(variable.value) for variable in self.carried_states]
            checked = self._asserted_equal("the same number of sequences in each batch", first[0].shape[0], rows)
        else:
            first = self._states.initial(rows)
        width, size = len(first), len(first) * (before + 1)

        def chunk(carried, start, steps, lead):
            """Take one chunk; the states before those that are looked at again are carried, the oldest first."""
            queue, sums = carried[:size], carried[size:]
            states = queue[:width]
            x_now, resets_now, y_now, weight_now = cut((x, resets, y, sample_weight), start, steps)
            with tf.GradientTape() as tape:
                if tf.is_tensor(lead) or lead:
                    x_before, resets_before = cut((x, resets), start - lead, lead)
                    _, states = self._states.run(x_before, states, training, resets_before)
                y_pred, states = self._states.run(x_now, states, training, resets_now)
                self._expect_steps(y_pred, steps)
                loss = self.compute_loss(x=x_now, y=y_now, y_pred=y_pred, sample_weight=weight_now, training=training)
                scaled = self.optimizer.scale_loss(loss) if training else loss
            for after, old in zip(states, first, strict=True):
                after.set_shape(old.shape)
            mask = get_mask(keras.tree.flatten(y_pred)[0])
            count = _counted(y_pred)
            self._report(loss, count, x_now, y_now, y_pred, weight_now)
            if training:
                zero = tf.UnconnectedGradients.ZERO
                sources = [w.value for w in self.trainable_weights]
                gradients = tape.gradient(scaled, sources, unconnected_gradients=zero)
                sums = (
                    learn(gradients, count, sums)
                    if mask is None
                    else tf.cond(count > 0, lambda: learn(gradients, count, sums), lambda: sums)
                )
            return [*queue[width:], *states, *sums]

        with checked:
            carried = run_chunks(chunk, [*first * (before + 1), *sums], length, self.k1, before, bool(self.jit_compile))
        return carried[size - width : size], carried[size:]

    def _report(self, loss, count, x, y, y_pred, sample_weight):
        """Update the mean of the loss, and the metrics with each step as a sample: chunks differ in length."""
        tracker = next(metric for metric in self.metrics if metric.name == "loss")
        tracker.update_state(loss * replica_count(), sample_weight=count)
        steps = keras.ops.shape(keras.tree.flatten(y_pred)[0])[1]
        y, y_pred, sample_weight = steps_as_samples((y, y_pred, sample_weight), steps)
        self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _length(self, x, y):
        """The number of steps of a batch: an integer or, where it is unknown, a tensor."""
        import tensorflow as tf

        owner = type(self).__name__
        tensors = keras.tree.flatten((x, y))
        shapes = [tuple(tensor.shape) for tensor in tensors if tensor is not None]
        rule = "inputs and labels of shape (batch, steps, ...)"
        expect(all(len(shape) >= 2 for shape in shapes), owner, rule, shapes=shapes)
        known = {shape[1] for shape in shapes if shape[1] is not None}
        expect(len(known) <= 1, owner, "inputs and labels of the same number of steps", shapes=shapes)
        expect(0 not in known, owner, "at least one step", shapes=shapes)
        if known:
            return known.pop()
        lengths = tf.stack([tf.shape(tensor)[1] for tensor in tensors if tensor is not None])
        with self._asserted_equal("inputs and labels of the same number of steps", lengths[0], lengths):
            return tf.identity(lengths[0])

    def _asserted_equal(self, rule, expected, got):
        """Refuse, while it runs, numbers that are unknown before; what is made within waits for that."""
        import tensorflow as tf

        assertion = tf.debugging.assert_equal(got, expected, f"{type(self).__name__}: expected {rule}.")
        return tf.control_dependencies([] if assertion is None else [assertion])

    def _expect_steps(self, y_pred, steps):
        """Refuse outputs without the steps of the inputs."""
        shapes = [tuple(y.shape) for y in keras.tree.flatten(y_pred)]
        same = all(len(s) >= 2 and (s[1] is None or not isinstance(steps, int) or s[1] == steps) for s in shapes)
        expect(same, type(self).__name__, "an output for each step, of shape (batch, steps, ...)", outputs=shapes)

    def get_config(self):
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "k1": self.k1,
            "k2": self.k2,
            "updates": self.updates,
            "stateful": self.stateful,
            "resets": self.resets,
        }

    @classmethod
    def from_config(cls, config):
        """Make the model and what is around it."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("model")), **config)


def _counted(y_pred):
    """The number of steps that count: those that a mask leaves, or all."""
    import tensorflow as tf

    first = keras.tree.flatten(y_pred)[0]
    mask = get_mask(first)
    if mask is not None:
        return tf.reduce_sum(tf.cast(mask, "float32"))
    return tf.cast(tf.reduce_prod(tf.shape(first)[:2]), "float32")


def _for_steps(weight, length):
    """Sample weights of each step: those of a sequence count for all of its steps."""
    import tensorflow as tf

    if weight is None or (weight.shape.rank > 1 and weight.shape[1] != 1):
        return weight
    return tf.repeat(tf.reshape(weight, [-1, 1]), length, axis=1)
