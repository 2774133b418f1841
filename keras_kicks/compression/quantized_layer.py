"""Layers of a model in quantization-aware training."""

import itertools

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.compression.clustered_kernel import ClusteredKernel, distinct_values
from keras_kicks.compression.fake_quantizer import FakeQuantizer
from keras_kicks.compression.rebuild import take_variables
from keras_kicks.ops.substitution import substituted


@keras.saving.register_keras_serializable(package="keras_kicks")
class QuantizedLayer(keras.layers.Wrapper):
    """Lets a layer compute with weights and outputs that 8 bits can hold; `quantize_model` makes it.

        y = q(activation(q(layer(x) with q(W) for its weights W)))

    Args:
        layer: The layer, in float32, without its activation where that is the wrapper's.
        weights: Dict from the name of a weight's attribute to how it is rounded: "per_tensor" or "per_channel".
        activation: Applied to what the layer returns.
        before: Whether the input of the activation is rounded.
        after: Whether the output is.
        preserve_sparsity: Whether weights that are zero at the start stay zero.
        clusters: Dict from the name of a weight that is clustered to the number of its values, which are trained then;
            it stays so.
        cluster_per_channel: Whether that is for each slice of the last axis.
        activity_regularizer: As that of the layer.
        **kwargs: Base layer arguments.
    """

    def __init__(
        self,
        layer,
        weights=None,
        activation=None,
        before=False,
        after=False,
        preserve_sparsity=False,
        clusters=None,
        cluster_per_channel=False,
        activity_regularizer=None,
        **kwargs,
    ):
        super().__init__(layer, activity_regularizer=activity_regularizer, **{**kwargs, "dtype": "float32"})
        self.weight_kinds = dict(weights or {})
        self.activation = keras.activations.get(activation)
        self.before = before
        self.after = after
        self.preserve_sparsity = preserve_sparsity
        self.clusters = dict(clusters or {})
        self.cluster_per_channel = cluster_per_channel
        self.supports_masking = layer.supports_masking
        self._clustered = {}
        self._masks = {}
        self._weight_quantizers = {}
        self._before = self._after = None

    def build(self, input_shape):
        """Build the layer and the ranges."""
        super().build(input_shape)
        for name, kind in self.weight_kinds.items():
            shape = getattr(self.layer, name).shape
            self._weight_quantizers[name] = FakeQuantizer(self, name, kind, shape)
            if name in self.clusters:
                kept = {"preserve_sparsity": self.preserve_sparsity, "cluster_per_channel": self.cluster_per_channel}
                self._clustered[name] = ClusteredKernel(self.clusters[name], **kept, name=f"clustered_{name}")
                self._clustered[name].build(shape)
            elif self.preserve_sparsity:
                arguments = {"shape": shape, "dtype": "bool", "initializer": "ones", "trainable": False}
                self._masks[name] = self.add_weight(name=f"{name}_mask", **arguments)
        if self.before:
            self._before = FakeQuantizer(self, "pre_activation", "moving_average")
        if self.after:
            self._after = FakeQuantizer(self, "post_activation", "moving_average")

    def take(self, layer):
        """Take over the values of a layer like the one inside; or of one like this, whose clusters may be left out."""
        if isinstance(layer, QuantizedLayer):
            self._take_state(layer)
            return
        take_variables([self.layer], layer)
        for name, quantizer in self._weight_quantizers.items():
            weight = getattr(self.layer, name).value
            if name in self._masks:
                self._masks[name].assign(ops.not_equal(weight, 0))
            if name in self._clustered:
                values = distinct_values(ops.convert_to_numpy(weight), self.cluster_per_channel)
                self._clustered[name].begin(weight, values)
            # The range as after the first step of training.
            quantizer(weight, True)

    def _take_state(self, other):
        if self.clusters == other.clusters:
            take_variables([self], other)
            return
        take_variables([self.layer], other.layer)
        for name in self._weight_quantizers:
            weight = other.kept(name)
            getattr(self.layer, name).assign(weight)
            if name in self._masks:
                self._masks[name].assign(ops.not_equal(weight, 0))
        ours, theirs = (itertools.chain(*layer.quantizers()) for layer in (self, other))
        for quantizer, known in zip(ours, theirs, strict=True):
            quantizer.low.assign(known.low.value)
            quantizer.high.assign(known.high.value)

    def call(self, inputs, training=None, **kwargs):
        """Call the layer with rounded weights, and round what it returns."""
        training = bool(training)
        y = self._call_layer(inputs, training, kwargs)
        if self._before is None and self._after is None and self.activation is keras.activations.linear:
            return y
        rule, kind = "a layer that returns a single tensor", type(self.layer).__name__
        expect(not keras.tree.is_nested(y), type(self).__name__, rule, "Mark it with output=False.", layer=kind)
        if self._before is not None:
            y = self._before(y, training)
        y = self.activation(y)
        return y if self._after is None else self._after(y, training)

    def _call_layer(self, inputs, training, kwargs):
        if not self._weight_quantizers:
            return self.layer(inputs, **kwargs)
        rounded = [(getattr(self.layer, name), self._rounded(name, training)) for name in self._weight_quantizers]
        with substituted(self.layer, rounded, self.add_loss):
            return self.layer(inputs, **kwargs)

    def _rounded(self, name, training):
        return self._weight_quantizers[name](self.kept(name), training)

    def kept(self, name):
        """Return a weight before it is rounded, with the zeros and clusters that are preserved."""
        weight = getattr(self.layer, name).value
        if name in self._masks:
            weight = ops.where(self._masks[name].value, weight, 0.0)
        if name in self._clustered:
            weight = self._clustered[name](weight)
        return weight

    def rounded_weights(self):
        """Return the weights that the layer computes with in inference, as arrays by name."""
        return {name: ops.convert_to_numpy(self._rounded(name, False)) for name in self._weight_quantizers}

    def quantizers(self):
        """Return the quantizers of weights, and those of activations."""
        return list(self._weight_quantizers.values()), [q for q in (self._before, self._after) if q is not None]

    def compute_output_spec(self, inputs, training=None, **kwargs):
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
        config = {
            "weights": self.weight_kinds,
            "activation": keras.activations.serialize(self.activation),
            "before": self.before,
            "after": self.after,
            "preserve_sparsity": self.preserve_sparsity,
            "clusters": self.clusters,
            "cluster_per_channel": self.cluster_per_channel,
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_kicks")
class QuantizedInput(keras.layers.Layer):
    """Rounds an input of a model to 256 values between the least and the largest that were seen in training."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.supports_masking = True
        self._quantizer = None

    def build(self, input_shape):
        """Make the range."""
        self._quantizer = FakeQuantizer(self, "input", "all_values")

    def call(self, inputs, training=None):
        """Return the rounded input."""
        return self._quantizer(inputs, bool(training))

    def quantizers(self):
        """Return the quantizers of weights, and those of activations."""
        return [], [self._quantizer]

    def compute_output_shape(self, input_shape):
        """Return the input shape."""
        return input_shape
