"""How far back in time a recurrent network learns from."""

import collections
import dataclasses

import keras
import numpy as np
from keras import ops, tree

from keras_kicks._errors import expect, expect_integer
from keras_kicks._layer_tree import parts_by_path
from keras_kicks.compression.prune import expect_model
from keras_kicks.diagnostics.projection import projection
from keras_kicks.diagnostics.recorded_states import recorded_states, training_argument
from keras_kicks.diagnostics.state_gradients import GradientThroughTime, StateGradient
from keras_kicks.diagnostics.tensor_gradients import tensor_gradients
from keras_kicks.diagnostics.unchanged import unchanged

OWNER = "gradient_through_time"


def gradient_through_time(model, x, y=None, loss=None, layers=None, state=0, training=False):
    """Measure the gradient of a loss by the hidden states of recurrent layers, over the lag.

        norm(lag) = ||dL / dh_t||,   lag = steps after t

    It is the total derivative, by all ways in which h_t, the tensor that a cell returns as its new state, acts on the
    loss; and L2 over the units of one sample. With a gradient that shrinks or grows by the same factor in each step,
    the logarithm of the norm is a line over the lag. The model is called once, eagerly and step by step, and is as it
    was afterwards.

    Args:
        model: A built model with recurrent layers: `keras.layers.RNN` and its subclasses (LSTM, GRU, ConvLSTM, those of
            this library), in wrappers such as `Bidirectional` and nested models too, with any cell.
        x: A batch of inputs, in the structure that the model takes; its states of all steps are kept in memory.
        y: Targets. The loss is then what the model was compiled with, as it is in `fit` for one batch: with the usual
            mean over samples, the norms have the factor 1 / batch.
        loss: Function of the outputs, or of `y` and the outputs where `y` is given, that returns a scalar. By default
            and without `y`, L = sum over samples of r . output, with random r of length 1, the same in every call
            (a plain sum would be constant for probabilities); of an output for each step, the last one that is not
            masked.
        layers: Name or path of a layer, or a list of them; by default all recurrent layers.
        state: Which state of a cell: 0 is the hidden state of all of Keras's cells, 1 the cell state of LSTM. (By the
            hidden state of an LSTM, the gradient falls once in the first step back, from where h acts through the
            gates alone; what carries it over long lags is the cell state.)
        training: Whether the model is called in training mode, with dropout for example.

    Returns:
        A `GradientThroughTime`, which prints as a table, with one `StateGradient` for each layer (each cell of
        stacked cells, each call of a shared layer): norms by sample and lag, their rate per step and a verdict.

    Raises:
        NotImplementedError: the backend is JAX, which has no gradients by tensors inside a call.
        RuntimeError: the model runs a layer in a compiled function, or without its steps.
        TypeError: `model` is no layer of Keras 3; `state` is no integer; `layers` are no names.
        ValueError: expected a built model; with recurrent layers; with those of the given names; with that state; x
            with a sample and a step in it that is not masked; a compiled model where `y` is given without `loss`; a
            scalar loss.

    Masking:
        A masked step is no step: the lag counts those that a sample takes. Padding changes nothing. For a layer that
        goes backwards, lag 0 is the step that it takes last.

    Source:
        Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", diploma thesis, TU München, 1991; Pascanu,
        Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, arXiv:1211.5063.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.diagnostics import gradient_through_time
        >>> rnn = keras.layers.SimpleRNN(2, activation=None, name="rnn")
        >>> model = keras.Sequential([keras.Input((None, 1)), rnn])
        >>> model.set_weights([np.ones((1, 2)), 0.5 * np.eye(2), np.zeros(2)])  # halves its state in each step
        >>> result = gradient_through_time(model, np.ones((4, 21, 1)))
        >>> result["rnn"].median[:4].round(3).tolist()
        [1.0, 0.5, 0.25, 0.125]
        >>> print(result)
        layer  lags  at lag 0  at last lag  rate a step  verdict
        rnn      21         1     9.54e-07        0.500  vanishing
    """
    expect_model(OWNER, model)
    expect_integer(OWNER, state=state)
    expect(state >= 0, OWNER, "state >= 0", state=state)
    chosen = _recurrent_layers(model, layers)
    x = tree.map_structure(ops.convert_to_tensor, x)
    y = None if y is None else tree.map_structure(ops.convert_to_tensor, y)
    shapes = [tuple(array.shape) for array in tree.flatten(x)]
    expect(all(0 not in shape for shape in shapes), OWNER, "x with a sample and a step in it", shapes=shapes)
    compiled = bool(getattr(model, "compiled", False))
    remedy = "Compile the model, or pass a loss."
    expect(y is None or loss is not None or compiled, OWNER, "a compiled model", remedy, compiled=compiled)
    found = []

    def run(watch):
        with recorded_states(chosen, watch) as records:
            outputs = model(x, **training_argument(model, training))
        if loss is not None:
            value = loss(outputs) if y is None else loss(y, outputs)
        elif y is not None:
            value = model.compute_loss(x=x, y=y, y_pred=outputs, training=training)
        else:
            value = projection(OWNER, outputs, {len(record.states) for record in records})
        shape = tuple(value.shape)
        expect(shape == (), OWNER, "a loss that is a scalar", "Take the mean or the sum.", shape=shape)
        found.extend(_with_state(records, chosen, layers, state))
        return value, [states[state] for record in found for states in record.states]

    with unchanged(model, _recurrent_layers(model, None).values()):
        gradients = iter(tensor_gradients(OWNER, run))
    return GradientThroughTime(tuple(_state_gradient(record, state, gradients) for record in found))


def _recurrent_layers(model, names):
    """Return the recurrent layers of those names by path."""
    parts = parts_by_path(model).items()
    found = {path or model.name: part for path, part in parts if isinstance(part, keras.layers.RNN)}
    expect(bool(found), OWNER, "a model with recurrent layers", model=model.name)
    if names is None:
        return found
    names = [names] if isinstance(names, str) else names
    listed = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    expect(listed, OWNER, "a name or a list of names for layers", error=TypeError, layers=names)
    chosen = {}
    for name in names:
        matches = {path: layer for path, layer in found.items() if name in (path, path.rpartition("/")[2])}
        remedy = f"There are: {', '.join(map(repr, found))}."
        expect(bool(matches), OWNER, "names of recurrent layers", remedy, layers=name)
        chosen.update(matches)
    expect(bool(chosen), OWNER, "names of recurrent layers", layers=names)
    return chosen


def _with_state(records, layers, names, state):
    """Return the records that have such a state, each with a name of its own."""
    ran = {record.layer for record in records}
    missing = [path for path in layers if path not in ran] if names is not None or not ran else []
    if missing:
        raise RuntimeError(f"{OWNER}: expected a model that runs its layers step by step; got layers={missing!r}.")
    counts = {record.name: len(record.states[0]) for record in records}
    records = [record for record in records if state < counts[record.name]]
    expect(bool(records), OWNER, "a state that a cell has", f"Numbers of states: {counts}.", state=state)
    calls = collections.Counter()
    for i, record in enumerate(records):
        calls[record.name] += 1
        if calls[record.name] > 1:
            records[i] = dataclasses.replace(record, name=f"{record.name} (call {calls[record.name]})")
    return records


def _state_gradient(record, state, gradients):
    """Return the norms of one record, by lag instead of by step."""
    norms = np.stack([_norm(next(gradients), states[state]) for states in record.states], axis=1)
    taken = np.ones(norms.shape, bool) if record.mask is None else record.mask
    lags = taken.sum(axis=1).max()
    expect(lags > 0, OWNER, "x with a sample and a step in it that is not masked", layer=record.name)
    by_lag = np.full((len(norms), lags), np.nan)
    for row, steps, sample in zip(by_lag, taken, norms, strict=True):
        row[: steps.sum()] = sample[steps][::-1]
    return StateGradient(record.name, by_lag)


def _norm(gradient, state):
    """Return the norm for each sample: 0 if the loss does not depend on the state, infinite if it is no number."""
    if gradient is None:
        return np.zeros(state.shape[0])
    values = ops.convert_to_numpy(ops.cast(gradient, "float64"))
    norms = np.sqrt(np.sum(values.reshape(len(values), -1) ** 2, axis=1))
    return np.where(np.isnan(norms), np.inf, norms)
