"""What samples and teachers are told by in a cache."""

import hashlib
import json
import math

import keras
import numpy as np

from keras_kicks._errors import expect

# What the outputs of a model do not depend on, and where its configuration names layers.
_NO_MATTER = frozenset({"build_config", "compile_config", "shared_object_id", "trainable"})
_NAMED = frozenset({"name", "keras_history", "input_layers", "output_layers"})


def sample_keys(x):
    """Return a digest of each sample of a batch of nested arrays: 16 bytes that depend on all its contents.

    Raises:
        TypeError: Inputs are neither numbers nor strings.
    """
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
    count = len(leaves[0])
    digests = [hashlib.blake2b(digest_size=16) for _ in range(count)]
    for leaf in leaves:
        head = f"{leaf.dtype.str}{leaf.shape[1:]}".encode()
        rows = np.ascontiguousarray(leaf).reshape(count, math.prod(leaf.shape[1:]))
        rows = [_joined(row) for row in rows] if leaf.dtype == object else rows.view(np.uint8)
        for digest, row in zip(digests, rows, strict=True):
            digest.update(head)
            digest.update(row)
    return [digest.digest() for digest in digests]


def fingerprint(models, layer_names):
    """Return a string that changes with the models, their weights, and the layers that are looked at.

    The names that Keras gives to layers do not matter: a model that is built twice has the same fingerprint.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(layer_names).encode())
    for model in models:
        digest.update(architecture(model).encode())
        for weight in model.weights:
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            digest.update(f"{value.dtype.str}{value.shape}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


def architecture(model):
    """Return the configuration of a model as text; of a model without one, the name of its class."""
    try:
        return json.dumps(_unnamed(keras.saving.serialize_keras_object(model), {}), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):
        return f"{type(model).__module__}.{type(model).__qualname__}"


def _unnamed(config, names, key=None):
    """Return a configuration with numbers, by first appearance, for the names of layers."""
    if isinstance(config, dict):
        return {k: _unnamed(value, names, k) for k, value in config.items() if k not in _NO_MATTER}
    if isinstance(config, (list, tuple)):
        return [_unnamed(value, names, key) for value in config]
    return names.setdefault(config, len(names)) if key in _NAMED and isinstance(config, str) else config


def _joined(row):
    """Return the strings of a row as bytes, each after its length."""
    items = [item.encode() if isinstance(item, str) else item for item in row]
    for item in items:
        kind = type(item).__name__
        expect(isinstance(item, bytes), "TeacherCache", "inputs of numbers or strings", error=TypeError, input=kind)
    return b"".join(len(item).to_bytes(8, "little") + item for item in items)
