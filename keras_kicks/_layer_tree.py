"""Where the parts of a model are."""

import keras


def all_layers(model):
    """Return a model and every layer in it, each once, also those that layers keep in private attributes.

    For these Keras has no public name: `tests/compression/test_keras_layers.py` fails when it changes this one.
    """
    found = {}

    def visit(layer):
        if id(layer) not in found:
            found[id(layer)] = layer
            for inner in layer._flatten_layers(include_self=False, recursive=False):
                visit(inner)

    visit(model)
    return list(found.values())


def parts_by_path(model):
    """Return the layers of a model, and what else in it can draw, by a path of names that no other part has.

    Both are found in `layers` and in public attributes, also in lists and dicts: so nested models, wrappers, cells
    and the layers of one's own layers, losses and regularizers. A part that is in several places has the first path.

    Args:
        model: A model; its own path is empty.

    Returns:
        Dict of layers, and of objects with a method `tensorboard_images`; each before those within it.
    """
    found, seen = {}, set()

    def visit(part, path):
        seen.add(id(part))
        found[path] = part
        if isinstance(part, keras.layers.Layer):
            for name, inner in _held(part):
                if id(inner) not in seen:
                    visit(inner, _unique(f"{path}/{name}".lstrip("/"), found))

    visit(model, "")
    return found


def draws(part):
    """Return whether an object contributes pictures."""
    return callable(getattr(part, "tensorboard_images", None)) and not isinstance(part, type)


def _held(layer):
    """Yield the name and the object of all that a layer holds."""
    held = {"layers": getattr(layer, "layers", None), **vars(layer)}
    if keras.backend.backend() == "torch":
        # A layer is a torch module there, which keeps others out of its attributes.
        held.update(layer.named_children())
    for attribute, value in held.items():
        if not attribute.startswith("_"):
            for inner in _flat(value):
                name = getattr(inner, "name", None)
                yield name if isinstance(name, str) else attribute, inner


def _flat(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, keras.layers.Layer) or draws(value):
        yield value


def _unique(path, taken):
    unique, count = path, 0
    while unique in taken:
        count += 1
        unique = f"{path}_{count}"
    return unique
