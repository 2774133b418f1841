"""What feeds its labels or its own outputs back, whatever they are."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number, expect_seed
from keras_kicks.layers.recurrent.cell_wrapper import call_layer
from keras_kicks.layers.recurrent.rnn import RNN
from keras_kicks.ops.keras_mask import get_mask, set_mask
from keras_kicks.ops.random import draw_uniform
from keras_kicks.ops.scan import scan


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
        if isinstance(cell, (list, tuple)):
            cell = keras.layers.StackedRNNCells(list(cell))
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
        self.rnn = (
            RNN(cell, return_sequences=True, zero_output_for_mask=True, dtype=self.dtype_policy)
            if self.is_recurrent
            else None
        )
        self.projection = keras.layers.Dense(units, dtype=self.dtype_policy, name="projection")
        self.seed_generator = self.teacher_forcing_ratio = None
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
        return {"input_width": self.input_width}

    def build_from_config(self, config):
        """Create the weights of a saved layer."""
        width = config["input_width"]
        self.build(inputs_shape=None if width is None else (None, width))

    def call(self, inputs=None, labels=None, initial_state=None, mask=None, training=None):
        """Return the outputs of all steps: after the labels if there are any, else after the decoder's own."""
        self.check(inputs, labels, initial_state, training, self.max_length)
        batch, steps = self._lengths(inputs, labels, initial_state)
        mask = self.step_mask(inputs, labels, mask)
        states = self.first_states(initial_state, batch)
        if labels is None:
            outputs = self._free_run(batch, steps, states, inputs, mask)
        else:
            fed = self._shifted(labels, batch, steps, mask)
            if training and self.scheduled_sampling:
                fed = self._mixed(fed, batch, steps, states, inputs, mask)
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
        if labels is None and not _is_sequence(inputs):
            return None  # What Keras passes are the masks of states.
        given = [mask, get_mask(inputs) if _is_sequence(inputs) else None, *self.label_masks(labels)]
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
        sequence = labels if labels is not None else inputs if _is_sequence(inputs) else None
        return batch, self.max_length if sequence is None else ops.shape(sequence)[1]

    def _shifted(self, labels, batch, steps, mask):
        """Return what is fed at each step: the label of the last step before it that counts."""
        first = ops.expand_dims(self.first_fed(batch), 1)
        labels = ops.cast(labels, first.dtype)
        if mask is None:
            return ops.concatenate([first, labels[:, :-1]], axis=1)
        counted = ops.cast(mask, "int32")
        places = ops.expand_dims(ops.arange(steps), 0) + (1 - counted) * steps
        before = ops.cumsum(counted, axis=1) - counted
        order = ops.argsort(places, axis=1)
        if len(labels.shape) == 3:
            order, before = ops.expand_dims(order, -1), ops.expand_dims(before, -1)
        # Those that count in a row, and the first one before them.
        row = ops.concatenate([first, ops.take_along_axis(labels, order, axis=1)], axis=1)
        return ops.take_along_axis(row, before, axis=1)

    def _mixed(self, teacher, batch, steps, states, inputs, mask):
        """Return what is fed at each step if a coin chooses between the label and the decoder's own output."""
        draws = draw_uniform((2, batch, steps), self.seed_generator, per_replica=True)
        rows = {"teacher": teacher, "coin": draws[0] < self.teacher_forcing_ratio, "draw": draws[1]}

        def step(carry, now):
            own, *states = carry
            fed = ops.where(_wide(now["coin"], own), now["teacher"], own)
            outputs, after = self.step(fed, states, now.get("inputs"))
            return _kept(now.get("mask"), (self.own_fed(outputs, now["draw"]), *after), carry), (fed,)

        (fed,) = self._scan(step, (self.first_fed(batch), *states), steps, {**rows, "mask": mask}, inputs)
        # The gradient by the labels, if they have one, stays.
        coin = ops.reshape(rows["coin"], (batch, steps, *[1] * (len(teacher.shape) - 2)))
        return ops.where(coin, teacher, ops.stop_gradient(fed))

    def _free_run(self, batch, steps, states, inputs, mask):
        """Return the outputs of all steps, each after the decoder's own output of the step before."""

        def step(carry, now):
            own, ended, *states = carry
            outputs, after = self.step(own, states, now.get("inputs"))
            outputs, own, ended = self.emit(outputs, ended)
            return _kept(now.get("mask"), (own, ended, *after), carry), (outputs,)

        carry = (self.first_fed(batch), ops.zeros((batch,), dtype="bool"), *states)
        (outputs,) = self._scan(step, carry, steps, {"mask": mask}, inputs)
        return outputs

    def _scan(self, step, carry, steps, rows, inputs):
        """Run `step` over the steps of what is there of `rows` and `inputs`; return its outputs, batch first."""
        rows = {name: row for name, row in {**rows, "inputs": inputs}.items() if row is not None}
        constant = {"inputs": rows.pop("inputs")} if "inputs" in rows and not _is_sequence(inputs) else {}
        rows = {name: ops.swapaxes(row, 0, 1) for name, row in rows.items()} or {"t": ops.arange(steps)}

        def named(carry, now):
            return step(carry, {**constant, **dict(zip(rows, now, strict=True))})

        _, _, outputs = scan(named, carry, tuple(rows.values()), keep_states=False)
        return [ops.swapaxes(output, 0, 1) for output in outputs]

    def _all_steps(self, fed, batch, steps, states, inputs, mask, training):
        """Return the outputs of all steps, whose predecessors are known."""
        vectors = self.encode(fed)
        if inputs is not None:
            if not _is_sequence(inputs):
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
        self.check(inputs, labels, initial_state, training, self.max_length)
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

    def check(self, inputs, labels, initial_state, training=False, max_length=None):
        """Raise unless the arguments of a call, which may be symbolic, fit the layer and each other."""
        owner = type(self).__name__
        anything = any(x is not None for x in (inputs, labels, initial_state))
        expect(anything, owner, "inputs, labels or an initial_state", inputs=inputs, labels=labels)
        if labels is None:
            remedy = "Build the model to train with decoder(inputs, labels)."
            expect(not training, owner, "labels in training", remedy, labels=labels)
            steps = _is_sequence(inputs) or max_length is not None
            remedy = "Pass it to the constructor."
            expect(steps, owner, "a max_length where neither labels nor inputs have steps", remedy, max_length=None)
        else:
            self.check_labels(labels)
        if inputs is not None:
            shape = tuple(inputs.shape)
            rule = "inputs of shape (batch, steps, features) or (batch, features)"
            expect(len(shape) in (2, 3), owner, rule, inputs_shape=shape)
            if labels is not None and len(shape) == 3:
                lengths = {shape[1], tuple(labels.shape)[1]} - {None}
                rule = "as many steps in inputs as in labels"
                expect(len(lengths) < 2, owner, rule, inputs_shape=shape, labels_shape=tuple(labels.shape))
        width = None if inputs is None else inputs.shape[-1]
        rule = "inputs of the width that the layer was built with (None for no inputs)"
        same = not self.built or width == self.input_width
        expect(same, owner, rule, built_with=self.input_width, inputs=width)
        if initial_state is not None:
            expect(self.is_recurrent, owner, "no initial_state for a cell without states", cell=self.cell.name)
            given = [tuple(state.shape) for state in keras.tree.flatten(initial_state)]
            sizes = keras.tree.flatten(self.cell.state_size)
            fits = len(given) == len(sizes) and all(
                shape[-1] in (None, size) for shape, size in zip(given, sizes, strict=True)
            )
            expect(fits, owner, "an initial_state of the sizes of the cell", given=given, state_size=sizes)

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


def _is_sequence(inputs):
    return inputs is not None and len(inputs.shape) == 3


def _first_shape(shape):
    """The shape of the first of nested states."""
    while isinstance(shape, (list, tuple)) and shape and isinstance(shape[0], (list, tuple)):
        shape = shape[0]
    return shape


def _wide(coin, value):
    """Of shape (batch,), with as many more axes as `value` has."""
    return ops.reshape(coin, (-1, *[1] * (len(value.shape) - 1)))


def _kept(counts, new, old):
    """The old values where a step does not count."""
    if counts is None:
        return tuple(new)
    return tuple(ops.where(_wide(counts, b), a, b) for a, b in zip(new, old, strict=True))
