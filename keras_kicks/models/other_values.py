"""A model run, or left, with other values of its variables than those it has."""

import contextlib

import keras

from keras_kicks._errors import expect
from keras_kicks._layer_tree import all_layers


@contextlib.contextmanager
def other_values(model, variables, values, **arguments):
    """Let a model be called with other values of its variables; nothing of it changes.

    Args:
        model: A built model.
        variables: Some of its variables.
        values: A tensor for each.
        **arguments: Of `keras.StatelessScope`.

    Yields:
        The `keras.StatelessScope`.
    """
    # These compute by tensors that they have made of their variables.
    derived = [(layer, layer.mean, layer.variance) for layer in normalizations(model)]
    with keras.StatelessScope(list(zip(variables, values, strict=True)), **arguments) as scope:
        try:
            for layer, _, _ in derived:
                layer.finalize_state()
            yield scope
        finally:
            for layer, mean, variance in derived:
                layer.mean, layer.variance = mean, variance


def refresh(model):
    """Let layers that compute by what they have made of their variables make it anew."""
    for layer in normalizations(model):
        layer.finalize_state()


def expect_no_tables(owner, model):
    """Raise if a layer has learned a table from data that is neither in its variables nor in its config.

    Raises:
        ValueError: expected no layers that were adapted to a vocabulary or to bins.
    """
    found = [layer.name for layer in all_layers(model) if _has_table(layer)]
    remedy = "Give them the vocabulary or bin_boundaries, or put them before the ensemble."
    expect(not found, owner, "no layers that were adapted to a vocabulary or to bins", remedy, layers=found)


def normalizations(model):
    """Return the layers of normalization in a model."""
    return [layer for layer in all_layers(model) if isinstance(layer, keras.layers.Normalization)]


def _has_table(layer):
    kinds = {
        "vocabulary": (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization),
        "bin_boundaries": (keras.layers.Discretization,),
    }
    return any(isinstance(layer, of) and layer.get_config().get(name) is None for name, of in kinds.items())
