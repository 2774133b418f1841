"""Which layers of a model draw in training, and a model in which these draw and all others are in inference mode."""

import contextlib
import inspect
import random

import keras
import numpy as np
from keras import layers, ops

from keras_kicks._errors import expect
from keras_kicks._layer_tree import all_layers
from keras_kicks.layers.activation.rrelu import RReLU
from keras_kicks.layers.augmentation.sequence_scaling import SequenceScaling
from keras_kicks.layers.augmentation.time_mask import TimeMask
from keras_kicks.layers.augmentation.time_warp import TimeWarp
from keras_kicks.layers.augmentation.vector_noise import VectorNoise
from keras_kicks.layers.recurrent.gru_cell import GRUCell
from keras_kicks.layers.recurrent.lstm_cell import LSTMCell
from keras_kicks.layers.recurrent.tree_layer import TreeLayer
from keras_kicks.layers.regularization.dropconnect import DropConnect

# Arguments of recurrent cells, attention and recursive layers that make them draw, where they are not 0.
RATES = ("dropout", "recurrent_dropout", "recurrent_dropconnect", "zoneout")
DROPOUT = (layers.Dropout, layers.AlphaDropout)
SPATIAL = (layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D)
# What draws other numbers for each row of a batch, at least as long as `_shared` says nothing else.
FOR_EACH_ROW = {
    *(*DROPOUT, *SPATIAL, layers.GaussianDropout, layers.GaussianNoise, layers.Attention, layers.AdditiveAttention),
    *(layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell),
    *(DropConnect, RReLU, LSTMCell, GRUCell, SequenceScaling, TimeMask, TimeWarp, VectorNoise),
}


def stochastic_layers(owner, model, chosen=None):
    """Return the layers of a model that are to draw, those within them included.

    Args:
        owner: Name of the function whose error messages these are.
        model: A built model.
        chosen: None for all that regularize by masks or slopes in training, or a sequence of layers, their names or
            their classes.

    Raises:
        TypeError: one of `chosen` is nothing of that kind.
        ValueError: expected layers of the model; at least one that draws.
    """
    everything = all_layers(model)
    if chosen is None:
        found = [layer for layer in everything if _regularizes(layer)]
        remedy = "Add Dropout, DropConnect or RReLU, or name those of your own by layers=[...]."
        if hasattr(model, "predict_members"):
            remedy = "predict_members has the spread of its members, and members() are models that may draw."
        expect(len(found) > 0, owner, "a model with layers that draw in training", remedy, model=model.name)
        return found
    found = []
    for choice in [chosen] if isinstance(chosen, (str, type, keras.layers.Layer)) else chosen:
        matching = [layer for layer in everything if _matches(owner, layer, choice)]
        rule = "layers of the model, their names or their classes"
        expect(len(matching) > 0, owner, rule, "It has none of these.", layers=choice, model=model.name)
        takes = all("training" in inspect.signature(layer.call).parameters for layer in matching)
        expect(takes, owner, "layers whose call has the argument training", layers=choice)
        inner = [part for layer in matching for part in all_layers(layer)[1:] if _regularizes(part)]
        found += [layer for layer in (*matching, *inner) if all(layer is not other for other in found)]
    expect(len(found) > 0, owner, "at least one layer that draws", layers=chosen)
    return found


def draws_for_each_row(layer):
    """Return whether rows of a batch get draws of their own, as far as it is known: else a batch may share one."""
    if type(layer) in FOR_EACH_ROW or isinstance(layer, TreeLayer):
        return not _shared(layer)
    # What holds layers and no generator draws by these.
    return not _generators(layer) and len(all_layers(layer)) > 1


@contextlib.contextmanager
def others_in_inference(model, chosen):
    """Let a model that is called with training=True have only these layers in training mode, and what they are in.

    A part that a `call` of its own calls with training=False stays in inference, as it does when the model is trained.
    """
    chosen_ids, changed = {id(layer) for layer in chosen}, []
    for layer in all_layers(model):
        within = any(id(part) in chosen_ids for part in all_layers(layer))
        if not within and "training" in inspect.signature(layer.call).parameters:
            changed.append((layer, vars(layer).get("call")))
            # In the instance alone, where Keras's own bookkeeping of attributes does not see it.
            vars(layer)["call"] = _in_inference(layer.call)
    try:
        yield
    finally:
        for layer, before in changed:
            if before is None:
                del vars(layer)["call"]
            else:
                vars(layer)["call"] = before


@contextlib.contextmanager
def own_draws(model, chosen, seed):
    """Let the layers draw by a seed, or by a new one, and give the model back all that calls with these layers change.

    Args:
        model: A built model.
        chosen: Layers that are in training mode.
        seed: None or an integer.
    """
    weights = {id(weight) for weight in model.weights}
    changing = [v for v in model.variables if id(v) not in weights]
    # Statistics, if a layer that keeps some was chosen.
    changing += [weight for layer in chosen for weight in layer.non_trainable_weights]
    before = [np.array(ops.convert_to_numpy(v)) for v in changing]  # A copy: torch shares the memory.
    seed = random.randrange(2**31) if seed is None else seed % 2**32
    rng = np.random.default_rng(seed)
    generators = {id(g): g for layer in all_layers(model) for g in _generators(layer)}
    try:
        for generator in generators.values():
            state = generator.state
            state.assign(np.array([rng.integers(2**31 - 1), 0], state.dtype))
        with _torch_draws(seed):
            yield
    finally:
        for variable, value in zip(changing, before, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def _torch_draws(seed):
    """Seed torch's own generator, from which layers without a seed draw on that backend, and set it back."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _matches(owner, layer, choice):
    if isinstance(choice, type):
        return isinstance(layer, choice)
    if isinstance(choice, str):
        return layer.name == choice
    rule = "layers of the model, their names or their classes"
    expect(isinstance(choice, keras.layers.Layer), owner, rule, error=TypeError, layers=choice)
    return layer is choice


def _regularizes(layer):
    """Return whether a layer itself draws masks or slopes in training."""
    if isinstance(layer, (*DROPOUT, layers.GaussianDropout, DropConnect)):
        return layer.rate > 0
    if isinstance(layer, RReLU):
        return layer.lower < layer.upper
    rates = keras.tree.flatten([getattr(layer, name, None) for name in RATES])
    drawing = any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)
    return drawing and bool(_generators(layer)) and "training" in inspect.signature(layer.call).parameters


def _shared(layer):
    """Return whether all rows of a batch get one of the draws of a layer."""
    if isinstance(layer, DropConnect):
        return layer.mask == "batch"
    noise_shape = getattr(layer, "noise_shape", None)
    return getattr(layer, "recurrent_dropconnect", 0) > 0 or (noise_shape is not None and noise_shape[0] is not None)


def _generators(layer):
    return [value for value in vars(layer).values() if isinstance(value, keras.random.SeedGenerator)]


def _in_inference(call):
    def called(*args, **kwargs):
        return call(*args, **{**kwargs, "training": False})

    return called
