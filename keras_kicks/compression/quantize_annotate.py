"""Which layers of a model are quantized, and how layers are that are not known."""

import keras

from keras_kicks._errors import expect, expect_choice
from keras_kicks.compression.fake_quantizer import WEIGHT_KINDS
from keras_kicks.compression.quantize_layout import Placement


def quantize_annotate_layer(layer, weights=None, output=None):
    """Mark a layer for `quantize_model`, which quantizes only what is marked in a model where something is.

    Args:
        layer: A layer, no model, to be put into a Sequential or functional model in its place.
        weights: Names of the attributes that hold the weights to round, of a layer that `quantize_model` does not know;
            or a dict from the names to "per_tensor" (as a list has it) or "per_channel" (of the last axis; for weights
            of rank 2 to 4; a Dense kernel in a .tflite has to be "per_tensor"). None for what is known of the layer.
        output: Whether the output of such a layer is rounded; None for yes. It has to be a single tensor then.

    Returns:
        A layer that does what `layer` does.

    Raises:
        TypeError: `layer` is no layer of Keras 3, or a model; `weights` are no names, `output` is no bool.
        ValueError: expected "per_tensor" or "per_channel" for each of the weights; a layer that is not marked yet. That
            a layer has such weights is checked by `quantize_model`.

    Source:
        TensorFlow Model Optimization Toolkit, of whose function of this name `quantize_config` is replaced by `weights`
        and `output`.

    Example:
        >>> from keras_kicks.compression import quantize_annotate_layer, quantize_model
        >>> model = keras.Sequential([
        ...     keras.Input((4,)),
        ...     keras.layers.Dense(8, activation="relu"),
        ...     quantize_annotate_layer(keras.layers.Dense(2, name="logits")),
        ... ])
        >>> [layer.name for layer in quantize_model(model).layers if layer.name.startswith("quant")]
        ['quant_logits']
    """
    owner = "quantize_annotate_layer"
    single = isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model)
    remedy = "Mark the layers of a model one by one."
    kind = f"{type(layer).__module__}.{type(layer).__name__}"
    expect(single, owner, "a layer of Keras 3, no model", remedy, TypeError, layer=kind)
    expect(not isinstance(layer, AnnotatedLayer), owner, "a layer that is not marked yet", layer=layer.name)
    known = output is None or isinstance(output, bool)
    expect(known, owner, "a bool, or None, for output", error=TypeError, output=output)
    names = weights is None or (isinstance(weights, (list, tuple, dict)) and all(isinstance(n, str) for n in weights))
    expect(names, owner, "a list of names, or a dict, for weights", error=TypeError, weights=weights)
    if weights is not None and not isinstance(weights, dict):
        weights = dict.fromkeys(weights, "per_tensor")
    for name, kind in (weights or {}).items():
        expect_choice(owner, WEIGHT_KINDS, **{name: kind})
    return AnnotatedLayer(layer, weights, output, name=f"annotated_{layer.name}")


def expect_weights(owner, layer, weights):
    """Raise unless a built layer has weights of the given names, of ranks that their kind of rounding knows."""
    for name, kind in weights.items():
        variable = getattr(layer, name, None)
        names = sorted(key.strip("_") for key, value in vars(layer).items() if isinstance(value, keras.Variable))
        remedy = f"It has: {', '.join(names)}."
        rule = "names of attributes that hold a weight"
        expect(isinstance(variable, keras.Variable), owner, rule, remedy, layer=layer.name, weight=name)
        rank = len(variable.shape)
        fits = kind == "per_tensor" or 2 <= rank <= 4
        remedy = 'Use "per_tensor".'
        expect(fits, owner, "weights of rank 2 to 4 for per_channel", remedy, layer=layer.name, weight=name, rank=rank)


@keras.saving.register_keras_serializable(package="keras_kicks")
class AnnotatedLayer(keras.layers.Wrapper):
    """Does what a layer does; `quantize_annotate_layer` makes it.

    Args:
        layer: The layer.
        weights: Dict from names of weights to how they are rounded, or None.
        output: Whether the output is rounded, or None.
        **kwargs: Base layer arguments.
    """

    def __init__(self, layer, weights=None, output=None, **kwargs):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.weight_kinds = weights
        self.output_rounded = output
        self.supports_masking = layer.supports_masking

    def call(self, inputs, **kwargs):
        """Call the layer."""
        return self.layer(inputs, **kwargs)

    def placement(self):
        """Return how the layer is quantized, or None for what is known of it."""
        if self.weight_kinds is None and self.output_rounded is None:
            return None
        return Placement(dict(self.weight_kinds or {}), after=self.output_rounded is not False)

    def compute_output_spec(self, inputs, **kwargs):
        """Return the output of the layer, symbolically."""
        return self.layer.compute_output_spec(inputs, **kwargs)

    def compute_output_shape(self, input_shape):
        """Return the output shape of the layer."""
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs, previous_mask):
        """Return the mask of the layer."""
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "weights": self.weight_kinds, "output": self.output_rounded}
