"""Where a symbolic tensor comes from."""

import keras


def producer(tensor):
    """Return the layer or operation that a symbolic tensor comes from, within nested models too; None for others."""
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return None
    operation, _, index = history
    inner = getattr(operation, "outputs", None) if isinstance(operation, keras.Model) else None
    return producer(inner[index]) if inner else operation
