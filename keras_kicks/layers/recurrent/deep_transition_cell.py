"""A recurrent cell that is deep within one step."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks.layers.recurrent.cell_wrapper import call_layer
from keras_kicks.layers.recurrent.sequence_draws import InnerDraws


@keras.saving.register_keras_serializable(package="keras_kicks")
class DeepTransitionCell(InnerDraws, keras.layers.Layer):
    """Several layers from input to state, from state to state and from state to output, in every step.

        u  = input_block(x)                     input to hidden
        h' = transition_block([u, h])           hidden to hidden
        y  = output_block(h')                   hidden to output

    A block is a list of layers, one after the other. The first of the transition block may be a recurrent cell: it is
    called with u and its states, and the layers after it go on from its output, whose place in the state their result
    takes. Without a cell the first layer sees u and h side by side, so that a Dense layer computes u W + h U + b.

    With `skip`, the last layer of a block that has `units` also sees what the block began with (x; u and h; h') beside
    the output of the layer before it: from one state to the next there is then a way through one such layer, however
    deep the block is, and the gradient through time has to pass no more nonlinearities than in a simple network.

    Args:
        input_block: A layer or a list of layers (a `keras.Sequential` counts as the list of its layers), or None.
        transition_block: The same, not None.
        output_block: The same, or None.
        skip: Whether to connect the begin of each block with its last layer.
        state_size: Width of h where it cannot be told from the transition block, which is where its last layer has no
            `units`.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, features).
        states: List of h of shape (batch, state_size), or of the states of the cell in the transition block.
        training: Passed to the layers that take it.

    Returns:
        y and the list of new states.

    Raises:
        TypeError: A block is not made of Keras layers.
        ValueError: expected a transition block of at least one layer; a cell only as its first layer; a
            transition block whose output can be the next state, of shape (batch, state_size).

    Masking:
        `keras.layers.RNN` keeps the states where a sequence is masked.

    Source:
        Pascanu, Gulcehre, Cho and Bengio 2014, arXiv:1312.6026: DT(S)-RNN and DOT(S)-RNN.

    Example:
        >>> import numpy as np
        >>> dense = lambda units: keras.layers.Dense(units, activation="tanh")
        >>> cell = DeepTransitionCell([dense(6)], [dense(8), dense(4)], [dense(8), keras.layers.Dense(3)])
        >>> tuple(keras.layers.RNN(cell, return_sequences=True)(np.ones((2, 5, 7))).shape)
        (2, 5, 3)
    """

    def __init__(self, input_block, transition_block, output_block, skip=True, state_size=None, **kwargs):
        owner = type(self).__name__
        super().__init__(**kwargs)
        self.input_block, self.output_block = _layers(owner, input_block), _layers(owner, output_block)
        self.transition_block = _layers(owner, transition_block)
        rule = "a transition_block of at least one layer"
        expect(len(self.transition_block) > 0, owner, rule, transition_block=transition_block)
        later = [*self.input_block, *self.transition_block[1:], *self.output_block]
        cells = [type(layer).__name__ for layer in later if _is_cell(layer)]
        expect(not cells, owner, "a recurrent cell only as the first layer of the transition_block", cells=cells)
        self.skip = bool(skip)
        self.inner_cell = self.transition_block[0] if _is_cell(self.transition_block[0]) else None
        self.given_state_size = state_size
        if state_size is not None:
            expect_integer(owner, state_size=state_size)
            expect(state_size >= 1, owner, "state_size >= 1", state_size=state_size)
        self.state_size = self._state_size(owner)
        self.output_size = _units(self.output_block) or self.state_size[0]

    def _state_size(self, owner):
        if self.inner_cell is not None:
            return keras.tree.flatten(self.inner_cell.state_size)
        width = self.given_state_size or _units(self.transition_block)
        kind = type(self.transition_block[-1]).__name__
        rule = "a transition_block whose last layer has units, or a state_size"
        expect(width is not None, owner, rule, "Pass state_size, the width of h.", last_layer=kind)
        return [int(width)]

    def build(self, input_shape):
        """Build the layers, and see that the next state has the shape of the last one."""
        shape = self._build_block(self.input_block, tuple(input_shape))
        width = self.state_size[0]
        if self.inner_cell is None:
            begin = (*shape[:-1], shape[-1] + width)
            shape = self._build_block(self.transition_block, begin)
        else:
            if not self.inner_cell.built:
                self.inner_cell.build(shape)
            output = getattr(self.inner_cell, "output_size", None) or width
            shape = self._build_block(self.transition_block[1:], (shape[0], output))
        expect(
            shape[-1] == width and len(shape) == 2,
            type(self).__name__,
            "a transition_block whose output can be the next state",
            f"Its last layer must return shape (batch, {width}).",
            output_shape=shape,
            state_size=width,
        )
        shape = self._build_block(self.output_block, shape)
        expect(
            shape[-1] == self.output_size,
            type(self).__name__,
            "an output_block whose last layer has units",
            "End it with a Dense layer.",
            output_shape=shape,
            output_size=self.output_size,
        )
        super().build(input_shape)

    def _build_block(self, layers, begin):
        """Build the layers of a block; return the shape of its output."""
        shape = begin
        for k, layer in enumerate(layers):
            if self._joins(layers, k):
                shape = (*shape[:-1], shape[-1] + begin[-1])
            if not layer.built:
                layer.build(shape)
            shape = tuple(layer.compute_output_shape(shape))
        return shape

    def _joins(self, layers, k):
        """Whether layer k also sees what its block began with: the last one that mixes, if there is one before it."""
        mixing = [i for i, layer in enumerate(layers) if hasattr(layer, "units")] or [len(layers) - 1]
        return self.skip and k == mixing[-1] and k > 0

    def call(self, inputs, states, training=False):
        """Make one step."""
        states = list(states) if keras.tree.is_nested(states) else [states]
        u = self._run(self.input_block, inputs, training)
        if self.inner_cell is None:
            h, others = self._run(self.transition_block, ops.concatenate([u, states[0]], axis=-1), training), []
        else:
            output, new = call_layer(self.inner_cell, training, u, states)
            new = list(new) if keras.tree.is_nested(new) else [new]
            h, others = self._run(self.transition_block[1:], output, training), new[1:]
        return self._run(self.output_block, h, training), [h, *others]

    def _run(self, layers, begin, training):
        x = begin
        for k, layer in enumerate(layers):
            if self._joins(layers, k):
                x = ops.concatenate([x, begin], axis=-1)
            x = call_layer(layer, training, x)
        return x

    def inner_input(self, step_input):
        """Return what the cell inside is called with."""
        return self._run(self.input_block, step_input, training=False)

    def get_config(self):
        """Return the constructor arguments."""
        blocks = {name: getattr(self, name) for name in ("input_block", "transition_block", "output_block")}
        return {
            **super().get_config(),
            **{name: [keras.saving.serialize_keras_object(layer) for layer in block] for name, block in blocks.items()},
            "skip": self.skip,
            "state_size": self.given_state_size,
        }

    @classmethod
    def from_config(cls, config):
        """Make the blocks and the cell."""
        config = dict(config)
        for name in ("input_block", "transition_block", "output_block"):
            config[name] = [keras.saving.deserialize_keras_object(layer) for layer in config[name]]
        return cls(**config)


def _layers(owner, block):
    """The layers of a block as a list."""
    if block is None:
        return []
    if isinstance(block, keras.Sequential):
        return list(block.layers)
    layers = list(block) if isinstance(block, (list, tuple)) else [block]
    kinds = [type(layer).__name__ for layer in layers]
    good = all(isinstance(layer, keras.layers.Layer) for layer in layers)
    expect(good, owner, "a block of Keras layers", "Pass a layer or a list of layers.", TypeError, block=kinds)
    return layers


def _is_cell(layer):
    return hasattr(layer, "state_size")


def _units(layers):
    """The width of the last layer that says it, or None."""
    return next((layer.units for layer in reversed(layers) if hasattr(layer, "units")), None)
