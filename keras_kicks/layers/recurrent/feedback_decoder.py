"""What feeds its labels or its own outputs back, whatever they are."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number, expect_seed
from keras_kicks.layers.recurrent.cell_wrapper import call_layer
from keras_kicks.layers.recurrent.feedback_arguments import check_arguments, is_sequence
from keras_kicks.layers.recurrent.feedback_loop import free_run, mixed, shifted
from keras_kicks.layers.recurrent.rnn import RNN
from keras_kicks.ops.keras_mask import get_mask, set_mask


class FeedbackDecoder(keras.layers.Layer):
    """Base class of the layers that are trained by teacher forcing.

    A subclass says how labels are checked (`check_labels`), what is fed back before the first step (`first_fed`), what
    vectors stand for what is fed back (`encode`), and what is fed back of the outputs (`own_fed`, `emit`).

    What is fed back carries no gradient, whether it was a label or the decoder's own output. So a mixture of both is
    found first, by a loop that keeps nothing for gradients, and then trained on as labels are: all steps at once.

    Attributes:
        cell: The recurrent cell, or the layer that takes its place.
        projection: From the output of the cell to the output of the decoder.
        teacher_forcing_ratio: float32 variable, the probability of the label in scheduled sampling; None without.
    """

    def __init__(self, cell, units, max_length, scheduled_sampling, teacher_forcing_ratio, seed, **kwargs):
        owner = type(self).__name__
        if isinstance(cell, (list, tuple)) and all(hasattr(inner, "state_size") for inner in cell) and cell:
            cell = keras.layers.StackedRNNCells(list(cell), dtype=cell[0].dtype_policy)
        layer = isinstance(cell, keras.layers.Layer) and not isinstance(cell, keras.layers.RNN)
        rule, remedy = "a recurrent cell or another layer for cell", "Pass a layer such as keras.layers.LSTMCell(8)."
        expect(layer, owner, rule, remedy, TypeError, cell=cell)
        kwargs.setdefault("dtype", cell.dtype_policy)
        super().__init__(**kwargs)
        if max_length is not None:
            expect_integer(owner, max_length=max_length)
            expect(max_length >= 1, owner, "max_length >= 1", max_length=max_length)
        expect_number(owner, teacher_forcing_ratio=teacher_forcing_ratio)
        in_range = 0 <= teacher_forcing_ratio <= 1
        expect(in_range, owner, "0 <= teacher_forcing_ratio <= 1", teacher_forcing_ratio=teacher_forcing_ratio)
        drawn = scheduled_sampling or teacher_forcing_ratio == 1
        rule = "teacher_forcing_ratio=1 without scheduled_sampling"
        expect(drawn, owner, rule, "Say how to sample.", teacher_forcing_ratio=teacher_forcing_ratio)
        expect_seed(owner, seed)
        self.supports_masking = True
        self.max_length = max_length
        self.scheduled_sampling = scheduled_sampling
        self.first_ratio = float(teacher_forcing_ratio)
        self.seed = seed
        self.cell = cell
        self.is_recurrent = hasattr(cell, "state_size")
        # Outputs of masked steps are zeros: Keras's loop on JAX takes the last output of stacked cells for a state.
        shown = {"return_sequences": True, "zero_output_for_mask": True}
        self.rnn = RNN(cell, dtype=self.dtype_policy, **shown) if self.is_recurrent else None
        self.projection = keras.layers.Dense(units, dtype=self.dtype_policy, name="projection")
        self.seed_generator = self.teacher_forcing_ratio = self.input_width = None
        if scheduled_sampling:
            self.seed_generator = keras.random.SeedGenerator(seed)
            self.teacher_forcing_ratio = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(self.first_ratio),
                dtype="float32",
                trainable=False,
                autocast=False,
                name="teacher_forcing_ratio",
                aggregation="only_first_replica",
            )

    def build(self, inputs_shape=None, labels_shape=None, initial_state_shape=None):
        """Create the weights: they depend on the width of the inputs, if there are any."""
        owner = type(self).__name__
        self.input_width = None if inputs_shape is None else inputs_shape[-1]
        known = inputs_shape is None or inputs_shape[-1] is not None
        expect(known, owner, "inputs whose last dimension is known", inputs_shape=inputs_shape)
        width = self.build_encoder() + (self.input_width or 0)
        if self.is_recurrent:
            self.rnn.build((None, None, width))
            hidden = getattr(self.cell, "output_size", None) or keras.tree.flatten(self.cell.state_size)[0]
        else:
            if not self.cell.built:
                self.cell.build((None, width))
            shape = tuple(self.cell.compute_output_shape((None, width)))
            rule = "a layer from shape (batch, features) to shape (batch, units) for cell"
            expect(len(shape) == 2, owner, rule, output_shape=shape)
            hidden = shape[-1]
        self.projection.build((None, None, hidden))

    def get_build_config(self):
        """Return what the weights depend on."""
        return {"input_width": self.input_width} if self.built else None

    def build_from_config(self, config):
        """Create the weights of a saved layer."""
        width = config["input_width"]
        self.build(inputs_shape=None if width is None else (None, width))

    def call(self, inputs=None, labels=None, initial_state=None, mask=None, training=None):
        """Return the outputs of all steps: after the labels if there are any, else after the decoder's own."""
        check_arguments(self, inputs, labels, initial_state, training, self.max_length)
        batch, steps = self._lengths(inputs, labels, initial_state)
        mask = self.step_mask(inputs, labels, mask)
        states = self.first_states(initial_state, batch)
        if labels is None:
            outputs = free_run(self, batch, steps, states, inputs, mask)
        else:
            fed = shifted(labels, self.first_fed(batch), steps, mask)
            if training and self.scheduled_sampling:
                fed = mixed(self, fed, batch, steps, states, inputs, mask)
            outputs = self._all_steps(fed, batch, steps, states, inputs, mask, training)
        return outputs if mask is None else set_mask(outputs, mask)

    def step(self, fed, states, inputs=None):
        """Make one step of inference.

        Args:
            fed: What is fed back, for each sample.
            states: Tuple of states, each of shape (batch, ...).
            inputs: Shape (batch, features), or None.

        Returns:
            The output of shape (batch, units), and the tuple of new states.
        """
        vectors = self.encode(fed)
        if inputs is not None:
            vectors = ops.concatenate([vectors, inputs], axis=-1)
        if not self.is_recurrent:
            return self.projection(call_layer(self.cell, False, vectors)), ()
        hidden, states = call_layer(self.cell, False, vectors, self._nested(states))
        states = tuple(ops.cast(state, self.cell.compute_dtype) for state in keras.tree.flatten(states))
        return self.projection(hidden), states

    def first_states(self, initial_state, batch):
        """Return the tuple of the states before the first step: zeros, or those that are given."""
        if not self.is_recurrent:
            return ()
        if initial_state is None:
            initial_state = self.rnn.get_initial_state(batch)
        return tuple(ops.cast(state, self.cell.compute_dtype) for state in keras.tree.flatten(initial_state))

    def step_mask(self, inputs, labels, mask):
        """Return the steps that count, of shape (batch, steps), or None if all do."""
        if labels is None and not is_sequence(inputs):
            return None  # What Keras passes are the masks of states.
        given = [mask, get_mask(inputs) if is_sequence(inputs) else None, *self.label_masks(labels)]
        given = [ops.cast(some, "bool") for some in given if some is not None]
        for other in given[1:]:
            given[0] = ops.logical_and(given[0], other)
        return given[0] if given else None

    def label_masks(self, labels):
        """Return what says which labels count, each None or of shape (batch, steps)."""
        return [] if labels is None else [get_mask(labels)]

    def _nested(self, states):
        """The states as the cell nests them, in lists of Python: Keras's own lists are no type of JAX."""
        left = list(states)

        def nest(size):
            return [nest(part) for part in size] if isinstance(size, (list, tuple)) else left.pop(0)

        nested = nest(self.cell.state_size)
        return nested if isinstance(nested, list) else [nested]

    def _lengths(self, inputs, labels, initial_state):
        """Return the batch size and the number of steps, integers where they are known."""
        batch = ops.shape(next(x for x in keras.tree.flatten([inputs, labels, initial_state]) if x is not None))[0]
        sequence = labels if labels is not None else inputs if is_sequence(inputs) else None
        return batch, self.max_length if sequence is None else ops.shape(sequence)[1]

    def _all_steps(self, fed, batch, steps, states, inputs, mask, training):
        """Return the outputs of all steps, whose predecessors are known."""
        vectors = self.encode(fed)
        if inputs is not None:
            if not is_sequence(inputs):
                inputs = ops.broadcast_to(ops.expand_dims(inputs, 1), (batch, steps, self.input_width))
            vectors = ops.concatenate([vectors, inputs], axis=-1)
        if self.is_recurrent:
            hidden = self.rnn(vectors, initial_state=self._nested(states), mask=mask, training=training)
        else:
            hidden = call_layer(self.cell, training, ops.reshape(vectors, (-1, vectors.shape[-1])))
            hidden = ops.reshape(hidden, (batch, steps, hidden.shape[-1]))
        return self.projection(hidden)

    def compute_output_spec(self, inputs=None, labels=None, initial_state=None, mask=None, training=None):
        """Check the arguments, as `call` does, and return the shape and dtype of the outputs."""
        check_arguments(self, inputs, labels, initial_state, training, self.max_length)
        tensors = [None if x is None else keras.tree.flatten(x)[0] for x in (inputs, labels, initial_state)]
        shapes = [None if x is None else tuple(x.shape) for x in tensors]
        return keras.KerasTensor(self.compute_output_shape(*shapes), dtype=self.compute_dtype)

    def compute_output_shape(self, inputs_shape=None, labels_shape=None, initial_state_shape=None):
        """Return (batch, steps, units)."""
        shapes = [inputs_shape, labels_shape, _first_shape(initial_state_shape)]
        batch = next((shape[0] for shape in shapes if shape is not None and shape[0] is not None), None)
        steps = self.max_length
        if labels_shape is not None:
            steps = labels_shape[1]
        elif inputs_shape is not None and len(inputs_shape) == 3:
            steps = inputs_shape[1]
        return batch, steps, self.projection.units

    def compute_mask(self, inputs, previous_mask):
        """Return nothing: `call` has set the mask."""

    def get_config(self):
        """Return the constructor arguments that all have."""
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "max_length": self.max_length,
            "scheduled_sampling": self.scheduled_sampling,
            "teacher_forcing_ratio": self.first_ratio,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Make the layer and its cell."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


def _first_shape(shape):
    """The shape of the first of nested states."""
    while isinstance(shape, (list, tuple)) and shape and isinstance(shape[0], (list, tuple)):
        shape = shape[0]
    return shape
