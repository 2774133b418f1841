"""The states of a model's recurrent layers, as tensors that go in and come out."""

import contextlib

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks._layer_tree import parts_by_path
from keras_kicks.layers.recurrent.cell_wrapper import call_layer
from keras_kicks.ops.scan import scan

_MIXING = (
    keras.layers.Bidirectional,
    keras.layers.Conv1D,
    keras.layers.SeparableConv1D,
    keras.layers.DepthwiseConv1D,
    keras.layers.Conv1DTranspose,
    keras.layers.MaxPooling1D,
    keras.layers.AveragePooling1D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Flatten,
)
_CONVOLUTIONAL = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)


class RecurrentStates:
    """Runs a model on a part of a sequence, from given states of its recurrent layers to the next ones.

    The last output of a layer is a state too: masked steps show it.

    Args:
        owner: Name of who asks, for errors.
        model: A model whose recurrent layers return sequences and run forwards.

    Raises:
        ValueError: expected a model with recurrent layers that can be cut in time.
    """

    def __init__(self, owner, model):
        parts = [part for part in parts_by_path(model).values() if isinstance(part, keras.layers.Layer)]
        self.owner = owner
        self.model = model
        self.layers = [part for part in parts if isinstance(part, keras.layers.RNN)]
        kinds = [type(part).__name__ for part in parts if isinstance(part, _MIXING)]
        rule = "a model without layers that mix steps, besides recurrent ones that run forwards"
        expect(not kinds, owner, rule, "They would see the end of a chunk as the end of the sequence.", layers=kinds)
        remedy = "Put keras.layers.LSTM, keras_kicks.layers.GRU or the like into it."
        expect(len(self.layers) > 0, owner, "a model with a recurrent layer", remedy, model=model.name)
        for layer in self.layers:
            options = {name: getattr(layer, name) for name in ("return_sequences", "go_backwards", "stateful")}
            good = options == {"return_sequences": True, "go_backwards": False, "stateful": False}
            rule = "recurrent layers with return_sequences=True, go_backwards=False and stateful=False"
            expect(good, owner, rule, layer=layer.name, **options)
            plain = not isinstance(layer, _CONVOLUTIONAL)
            expect(plain, owner, "recurrent layers without convolutions", layer=layer.name)
        run = {id(part) for layer in self.layers for part in parts_by_path(layer).values()}
        stray = [part.name for part in parts if hasattr(part, "state_size") and id(part) not in run]
        rule, remedy = "recurrent cells that a keras.layers.RNN runs", "Others would begin anew with each chunk."
        expect(not stray, owner, rule, remedy, cells=stray)

    def specs(self):
        """Return the width and the dtype of each state."""
        return [(width, layer.cell.compute_dtype) for layer in self.layers for width in _widths(layer)]

    def initial(self, batch_size):
        """Return the first states of all layers, as a flat list."""
        states = []
        for layer in self.layers:
            first = keras.tree.flatten(layer.get_initial_state(batch_size))
            first.append(ops.zeros((batch_size, _widths(layer)[-1])))
            states += [ops.cast(state, layer.cell.compute_dtype) for state in first]
        return states

    def run(self, x, states, training, resets=None):
        """Return the model's output for a part of a sequence and the states after it, as a flat list."""
        after = {}
        with contextlib.ExitStack() as stack:
            for layer in self.layers:
                count = len(_widths(layer))
                before, states = states[:count], states[count:]
                stack.enter_context(self._flowing(layer, before, after, resets))
            y = self.model(x, training=training)
        names = [layer.name for layer in self.layers if id(layer) not in after]
        expect(not names, self.owner, "a model that calls each of its recurrent layers", not_called=names)
        return y, [state for layer in self.layers for state in after[id(layer)]]

    @contextlib.contextmanager
    def _flowing(self, layer, before, after, resets):
        """Let a layer begin with given states, which Keras asks it for, and hand out the last ones of its loop."""
        loop, begin, asked = layer.inner_loop, layer.get_initial_state, []
        *before, shown = before

        def get_initial_state(batch_size):
            asked.append(begin(batch_size))
            return keras.tree.pack_sequence_as(asked[-1], before)

        def inner_loop(sequences, initial_state, mask, training=False):
            expect(id(layer) not in after, self.owner, "a model that calls a recurrent layer once", layer=layer.name)
            rule = "a model that does not pass initial_state to a recurrent layer"
            expect(len(asked) == 1, self.owner, rule, layer=layer.name)
            if resets is None:
                last, outputs, states = loop(sequences, initial_state, mask, training=training)
            else:
                first = [ops.cast(state, layer.cell.compute_dtype) for state in keras.tree.flatten(asked[0])]
                last, outputs, states = _loop_with_resets(
                    layer, sequences, initial_state, first, mask, training, resets
                )
            if mask is not None and not layer.zero_output_for_mask:
                # Before the first step that counts Keras shows zeros, in the whole sequence and in each part of it.
                seen = ops.cumsum(ops.cast(keras.tree.flatten(mask)[0], "int32"), axis=1) > 0
                outputs = ops.where(seen[..., None], outputs, ops.expand_dims(ops.cast(shown, outputs.dtype), 1))
                last = outputs[:, -1]
            after[id(layer)] = [*keras.tree.flatten(states), ops.cast(outputs[:, -1], layer.cell.compute_dtype)]
            return last, outputs, states

        layer.inner_loop, layer.get_initial_state = inner_loop, get_initial_state
        try:
            yield
        finally:
            del layer.inner_loop, layer.get_initial_state


def _widths(layer):
    """Widths of the states of a layer's cell, and of its output."""
    widths = keras.tree.flatten(layer.cell.state_size)
    return [*widths, getattr(layer.cell, "output_size", None) or widths[0]]


def _loop_with_resets(layer, sequences, states, first, mask, training, resets):
    """The loop of a recurrent layer over its cell, which begins anew where `resets` says so."""
    structure, flat = states, keras.tree.flatten(states)
    steps = [ops.transpose(sequences, (1, 0, *range(2, len(sequences.shape))))]
    steps.append(_by_step(resets))
    if mask is not None:
        steps.append(_by_step(keras.tree.flatten(mask)[0]))
    output = ops.zeros((ops.shape(sequences)[0], _widths(layer)[-1]), dtype=layer.cell.compute_dtype)

    def step(carried, now):
        shown, *old = carried
        x, reset, *mask = now
        old = [ops.where(reset, a, b) for a, b in zip(first, old, strict=True)]
        y, new = call_layer(layer.cell, training, x, keras.tree.pack_sequence_as(structure, old))
        new = keras.tree.flatten(new)
        if mask:
            y = ops.where(mask[0], y, ops.zeros_like(shown) if layer.zero_output_for_mask else shown)
            new = [ops.where(mask[0], a, b) for a, b in zip(new, old, strict=True)]
        return (y, *new), (y,)

    last, _, (outputs,) = scan(step, (output, *flat), steps, keep_states=False)
    return last[0], ops.transpose(outputs, (1, 0, 2)), keras.tree.pack_sequence_as(structure, list(last[1:]))


def _by_step(flags):
    """From (batch, steps) to booleans of shape (steps, batch, 1)."""
    return ops.expand_dims(ops.transpose(ops.cast(flags, "bool")), -1)
