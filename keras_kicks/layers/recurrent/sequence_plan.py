"""How a cell runs over a whole sequence at once."""

import dataclasses

import keras
from keras import ops

from keras_kicks.ops.group_norm import group_norm
from keras_kicks.ops.recurrence_rule import Rule
from keras_kicks.ops.simple_rnn_rule import SimpleRNNRule


@dataclasses.dataclass
class SequencePlan:
    """What `keras_kicks.ops.recurrence.recur` takes, for one cell and one batch of sequences.

    Attributes:
        rule: What the cell does within a step.
        inputs: Shape (batch, steps, features).
        kernel: Shape (features, width), or None if the rule takes the inputs as they are.
        weights: Dict of tensors with a gradient.
        steps: Tensors of shape (steps, batch, ...), such as masks.
        constants: Dict of tensors without a gradient.
        outputs: Indices of the states that make the output, side by side.
    """

    rule: Rule
    inputs: object
    kernel: object
    weights: dict
    steps: tuple = ()
    constants: dict = dataclasses.field(default_factory=dict)
    outputs: tuple = (0,)


def has_plan(cell):
    """Whether a cell, as it is configured, runs over a whole sequence at once."""
    if type(cell) is keras.layers.SimpleRNNCell:
        return cell.activation is keras.activations.tanh
    return bool(getattr(cell, "has_sequence_plan", False))


def plan_of(cell, sequences, training):
    """Return the `SequencePlan` of a cell that has one, after its dropout masks were drawn."""
    if type(cell) is keras.layers.SimpleRNNCell:
        return _simple_rnn(cell, sequences, training)
    return cell.sequence_plan(sequences, training)


def tanh_and_sigmoid(cell):
    """Whether the cell has the activations that the rules know."""
    return cell.activation is keras.activations.tanh and cell.recurrent_activation is keras.activations.sigmoid


def as_tensor(weight, dtype):
    """Return the value of a weight; a reshape, since custom gradients want tensors and no cast reads a variable."""
    return ops.reshape(ops.cast(weight, dtype), weight.shape)


def cast_weights(dtype, **weights):
    """Return the values of those weights that are there."""
    return {name: as_tensor(value, dtype) for name, value in weights.items() if value is not None}


def normalized_product(sequences, kernel, gamma, epsilon, widths):
    """Return x W of all steps, layer-normalized in blocks of columns of these widths, times gamma."""
    product = ops.reshape(ops.matmul(sequences, kernel), (-1, 1, kernel.shape[1]))
    edges = [sum(widths[: n + 1]) for n in range(len(widths) - 1)]
    # Split, not sliced: the gradient of that is one concatenation, and not a sum of the blocks filled up with zeros.
    parts = zip(*(ops.split(x, edges, axis=-1) if edges else [x] for x in (product, gamma)), strict=True)
    blocks = [group_norm(x, scale, ops.zeros_like(scale), 1, epsilon, channel_axis=2) for x, scale in parts]
    normal = blocks[0] if len(blocks) == 1 else ops.concatenate(blocks, axis=-1)
    return ops.reshape(normal, (*ops.shape(sequences)[:2], kernel.shape[1]))


def _simple_rnn(cell, sequences, training):
    if training and cell.dropout > 0:
        sequences = sequences * ops.expand_dims(cell.get_dropout_mask(sequences[:, 0]), 1)
    weights = cast_weights(cell.compute_dtype, recurrent_kernel=cell.recurrent_kernel, bias=cell.bias)
    constants = {}
    if training and cell.recurrent_dropout > 0:
        constants["recurrent_mask"] = cell.get_recurrent_dropout_mask(None)
    rule = SimpleRNNRule(dropped=bool(constants))
    return SequencePlan(rule, sequences, as_tensor(cell.kernel, cell.compute_dtype), weights, constants=constants)
