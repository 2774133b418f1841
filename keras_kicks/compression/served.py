"""A Keras model as one function of named tensors, in a SavedModel."""

import re
import typing

import keras

from keras_kicks._errors import expect


class Signature(typing.NamedTuple):
    """What a model takes.

    Attributes:
        structure: `keras.InputSpec`s of fixed batch, in the structure of the model's inputs; a dict of call arguments
            where it takes several.
        names: Name of each, in the order of `keras.tree.flatten`.
        by_argument: Whether `structure` is a dict of call arguments.
    """

    structure: object
    names: list
    by_argument: bool

    @property
    def specs(self):
        """Return the specs in one list."""
        return keras.tree.flatten(self.structure)


def signature(owner, model):
    """Return what a built model takes, one sample at a time, or the batch that the Input of a functional one has.

    Raises:
        ValueError: expected a model that was called, or has an Input.
    """
    if getattr(model, "inputs", None):
        # Without an Input a Sequential is bound to the batch that it happened to be called on first.
        bound = not isinstance(model, keras.Sequential)
        known = model.input if bound else model.inputs[0]
        structure = keras.tree.map_structure(lambda x: _spec(x.shape, x.dtype, bound), known)
        names = [x.name for x in keras.tree.flatten(known)] if bound else ["inputs"]
        if isinstance(known, dict) and len(known) == len(names):
            # In the order in which flatten goes through a dict.
            names = keras.tree.flatten({key: key for key in known})
        return Signature(structure, _distinct(names), False)
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict", config.get("input_shape"))
    called = shapes is not None
    expect(called, owner, "a model that was called, or has an Input", "Call it on a batch first.", model=model.name)
    by_argument = "shapes_dict" in config
    if by_argument:
        shapes = {name.removesuffix("_shape"): shape for name, shape in shapes.items()}
    structure = keras.tree.map_shape_structure(lambda s: _spec(s, model.input_dtype, bound=False), shapes)
    paths = [path for path, _ in keras.tree.flatten_with_path(structure)]
    names = ["_".join(str(part) for part in path) or "inputs" for path in paths]
    names = [f"inputs_{name}" if name[0].isdigit() else name for name in names]
    return Signature(structure, _distinct(names), by_argument)


def write_saved_model(owner, model, signature, folder):
    """Write the inference of a model as a SavedModel.

    Args:
        owner: Name for the error messages.
        model: The model.
        signature: From `signature`.
        folder: Where to.

    Returns:
        Kinds of the TensorFlow operations in it, as a set of names.

    Raises:
        ValueError: expected a model that runs on the inputs it was built with.
    """
    import tensorflow as tf

    def serve(*tensors):
        inputs = keras.tree.pack_sequence_as(signature.structure, tensors)
        outputs = model(**inputs, training=False) if signature.by_argument else model(inputs, training=False)
        return dict(zip(_output_names(outputs), keras.tree.flatten(outputs), strict=True))

    specs = [tf.TensorSpec(s.shape, s.dtype, name) for s, name in zip(signature.specs, signature.names, strict=True)]
    archive = keras.export.ExportArchive()
    archive.track(model)
    try:
        served = archive.add_endpoint("serve", serve, specs)
        graph = served.get_concrete_function().graph.as_graph_def()
    except Exception as error:
        takes = {name: spec.shape for name, spec in zip(signature.names, signature.specs, strict=True)}
        raise ValueError(
            f"{owner}: expected a model that runs on the inputs it was built with; got model={model.name!r}, "
            f"inputs={takes}. Put it into keras.Model(inputs, model(...)). ({error})"
        ) from error
    archive.write_out(folder, verbose=False)
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes}


def _spec(shape, dtype, bound):
    batch = shape[0] if bound and shape[0] is not None else 1
    return keras.InputSpec(shape=(batch, *shape[1:]), dtype=dtype)


def _output_names(outputs):
    """Return keys of a dict as names, and `output_0`, `output_1` ... for what has none."""
    if isinstance(outputs, dict) and not any(keras.tree.is_nested(value) for value in outputs.values()):
        return _distinct(keras.tree.flatten({key: str(key) for key in outputs}))
    return [f"output_{i}" for i in range(len(keras.tree.flatten(outputs)))]


def _distinct(names):
    """Return names that TensorFlow takes as they are, each once."""
    names = [re.sub(r"\W", "_", name) for name in names]
    names = [name if name[0].isalpha() else f"x{name}" for name in names]
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
