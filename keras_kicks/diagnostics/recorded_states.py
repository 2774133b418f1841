"""The states that recurrent layers pass from step to step while a model is called."""

import contextlib
import dataclasses
import functools
import inspect

import keras
import numpy as np
from keras import ops, tree


@dataclasses.dataclass(frozen=True)
class RecordedStates:
    """What one cell handed on in one call of its layer.

    Attributes:
        layer: Path of the layer in the model.
        name: The same, and the name of the cell where the layer has several.
        states: One list of states for each step, in the order in which the layer took the steps. A step that is
            masked for a sample has its new state here, which that sample does not use.
        mask: Bool array of shape (batch, steps) in the same order: whether the sample takes the step; None if all do.
    """

    layer: str
    name: str
    states: list
    mask: np.ndarray | None


def training_argument(layer, training):
    """Return `training` as a keyword, if a call of the layer takes it."""
    takes = isinstance(layer, keras.layers.Layer) and "training" in inspect.signature(layer.call).parameters
    return {"training": training} if takes else {}


@contextlib.contextmanager
def recorded_states(layers, watch):
    """Let recurrent layers run step by step, and yield the list of `RecordedStates` that calls of them add to.

    The tensors in it are the very ones that everything later is computed from, so that a gradient by one of them is
    the total derivative. A layer's own way to run a whole sequence at once is not used meanwhile.

    Args:
        layers: Dict of `keras.layers.RNN` layers by path.
        watch: Function that returns a tensor from which gradients are asked for, in place of the one it is given.
    """
    records = []
    try:
        for path, layer in layers.items():
            layer.inner_loop = functools.partial(_step_by_step, layer, path, records, watch)
        yield records
    finally:
        for layer in layers.values():
            if "inner_loop" in vars(layer):
                del layer.inner_loop


def _step_by_step(layer, path, records, watch, sequences, initial_state, mask=None, training=False):
    """The steps of `keras.layers.RNN.inner_loop`, taken one by one."""
    call = functools.partial(layer.cell, **training_argument(layer.cell, training))
    sequences = watch(sequences)
    # Those of a stateful layer are variables, which change at the end of the call.
    values = tree.map_structure(lambda state: getattr(state, "value", state), initial_state)
    initial_state = tree.map_structure(watch, values)
    states, output, outputs, kept = initial_state, None, [], []
    inputs = ops.unstack(sequences, axis=1)
    order = list(range(len(inputs)))[:: -1 if layer.go_backwards else 1]
    mask = None if mask is None else ops.cast(tree.flatten(mask)[0], "bool")
    for t in order:
        new_output, new_states = call(inputs[t], states)
        new = tree.flatten(new_states)
        kept.append(new)
        if mask is not None:
            takes = mask[:, t]
            without = ops.zeros_like(new_output) if output is None or layer.zero_output_for_mask else output
            new_output = _where(takes, new_output, without)
            new = [_where(takes, after, before) for after, before in zip(new, tree.flatten(states), strict=True)]
        states, output = tree.pack_sequence_as(initial_state, new), new_output
        outputs.append(output)
    taken = None if mask is None else np.array(ops.convert_to_numpy(mask))[:, order]
    for name, places in _cells(layer, path, initial_state):
        records.append(RecordedStates(path, name, [[new[i] for i in places] for new in kept], taken))
    return output, ops.stack(outputs, axis=1) if layer.return_sequences else output[:, None], states


def _cells(layer, path, states):
    """Return the name of each cell of a layer, and where its states are among all of them."""
    if not isinstance(layer.cell, keras.layers.StackedRNNCells):
        return [(path, range(len(tree.flatten(states))))]
    found, first = [], 0
    for index, (cell, held) in enumerate(zip(layer.cell.cells, states, strict=True)):
        count = len(tree.flatten(held))
        found.append((f"{path}/{getattr(cell, 'name', 'cell')}", range(first, first + count)))
        first += count
        if [name for name, _ in found].count(found[-1][0]) > 1:
            found[-1] = (f"{path}/cell_{index}", found[-1][1])
    return found


def _where(takes, new, old):
    return ops.where(ops.reshape(takes, (-1, *[1] * (len(new.shape) - 1))), new, old)
