"""Layers that a part of a model refers to, and how these are found again in a file, a copy or a clone."""

import dataclasses

import keras

from keras_kicks._layer_tree import parts_by_path

NUMBER = "shared_object_id"


@dataclasses.dataclass(frozen=True)
class Named:
    """A layer of which only the config is known, until the model around it is.

    Attributes:
        config: What Keras serializes of it.
    """

    config: dict

    @property
    def name(self):
        """The name of the layer."""
        return self.config["config"]["name"]


def reference(layer):
    """Return the config of a layer that belongs to another part of the model, or a `Named` one's.

    While it writes a file, Keras gives an object that it meets again a number, here and at its own place: there it is
    one and the same. The second time it has met it for certain, also if it has no place of its own.
    """
    if isinstance(layer, Named):
        return {"layer": {k: v for k, v in layer.config.items() if k != NUMBER}, "elsewhere": True}
    elsewhere = NUMBER in keras.saving.serialize_keras_object(layer)
    config = keras.saving.serialize_keras_object(layer)
    return {"layer": config, "elsewhere": elsewhere or NUMBER not in config}


def referred(config):
    """Return the layer of such a config, or a `Named` one.

    Of a file it is the very layer that stands elsewhere in it, or a new one if there is no other place for it.
    Otherwise (`from_config`, `clone_model`) a new layer would be another than the new model's: there is none before it
    is looked for. So it is in files with a nested Sequential, for which Keras forgets the number. With `"own": True` in
    the config, nothing else holds the layer: a copy makes one.
    """
    layer = config["layer"]
    if config.get("own"):
        return keras.saving.deserialize_keras_object(layer)
    if NUMBER not in layer:
        return Named(layer)
    if not config["elsewhere"]:
        return keras.saving.deserialize_keras_object(layer)
    try:
        # Of a class that is none: so it is known by its number, or not at all.
        known = {"class_name": "", "module": "keras", "registered_name": None, "config": {}, NUMBER: layer[NUMBER]}
        return keras.saving.deserialize_keras_object(known)
    except (TypeError, ValueError):
        return Named(layer)


def before(inputs):
    """Return the layers, nested ones too, that symbolic inputs come from; none for other inputs."""
    tensors = [x for x in keras.tree.flatten(inputs) if hasattr(x, "_keras_history")]
    if not tensors:
        return []
    return _within(keras.Model(keras.utils.get_source_inputs(tensors[0]), tensors[0], name="before"))


def around(layer):
    """Return the layers of the model whose call this is, nested ones too."""
    # Keras has no public name for what is being called.
    entry = layer._get_call_context().entry_layer
    return [] if entry is None else _within(entry)


def _within(model):
    return [part for part in parts_by_path(model).values() if isinstance(part, keras.layers.Layer)]
