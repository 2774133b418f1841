"""What layers whose kernel is that of another layer, transposed, have in common."""

import keras

from keras_kicks._errors import expect
from keras_kicks._references import Named, around, before, reference, referred


class Transposed(keras.layers.Layer):
    """Holds the other layer, finds it again in copies, and has a bias of its own.

    The other layer is a part of this one, as a layer within a layer: its weights are listed here too, and once in a
    model that has both. A config names it. In a `.keras` file it is the same object in both places; in what
    `clone_model` and `from_config` make it is looked for by its name, first in the layers that the inputs come from,
    then in the model that is being called.
    """

    def __init__(
        self,
        tied_to,
        activation=None,
        use_bias=True,
        bias_initializer="zeros",
        bias_regularizer=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self._kernel_shape = None
        self._tied = None
        if isinstance(tied_to, Named):
            self._tied = tied_to
        else:
            self.tied_to = tied_to

    @property
    def tied_to(self):
        """The layer whose kernel this is; None in a copy that has not found it yet."""
        return None if isinstance(self._tied, Named) else self._tied

    def __setattr__(self, name, value):
        # Past Keras's tracking, which lets no layer become a part of one that is built.
        if name == "tied_to":
            self._tie(value)
        else:
            super().__setattr__(name, value)

    def _tie(self, layer):
        expect(isinstance(layer, keras.layers.Layer), type(self).__name__, "a layer", error=TypeError, tied_to=layer)
        if layer.built:
            self._checked(layer)
        if self.built:
            # The model has it elsewhere.
            object.__setattr__(self, "_tied", layer)
        else:
            self._tied = layer

    @property
    def kernel(self):
        """The other layer's kernel."""
        return self._checked(self.tied_to)

    def _rank(self):
        """Return the number of axes of the kernel."""
        raise NotImplementedError

    def _checked(self, layer):
        """Return the kernel of a layer, or say why it cannot be this one's."""
        owner, kernel = type(self).__name__, getattr(layer, "kernel", None)
        fits = kernel is not None and len(kernel.shape) == self._rank()
        expect(fits, owner, f"a layer with a kernel of {self._rank()} axes", tied_to=getattr(layer, "name", layer))
        mode = getattr(layer, "quantization_mode", None)
        expect(mode is None, owner, "a layer that is not quantized", tied_to=layer.name, quantization_mode=mode)
        shape = tuple(kernel.shape)
        rule = "the other layer's kernel to have the shape of before"
        expect(self._kernel_shape in (None, shape), owner, rule, shape=shape, before=self._kernel_shape)
        self._kernel_shape = shape
        return kernel

    def __call__(self, inputs, *args, **kwargs):
        """Find the other layer in the model, if this is a copy, and call the layer."""
        if isinstance(self._tied, Named):
            self._find(before(inputs))
        return super().__call__(inputs, *args, **kwargs)

    def _find(self, layers):
        """Take the layer of this name, if there is one; of several, none."""
        found = [layer for layer in layers if layer.name == self._tied.name and layer is not self]
        if len(found) == 1 and found[0].built:
            self.tied_to = found[0]

    def _tied_kernel(self):
        """Return the kernel in a call."""
        if isinstance(self._tied, Named):
            self._find(around(self))
        if isinstance(self._tied, Named):
            rule = f"the one layer {self._tied.name!r} in the model that is called"
            expect(False, type(self).__name__, rule, "Set `tied_to` to the layer.", layer=self.name)
        return self.kernel

    def build(self, input_shape):
        """Create the bias."""
        if not isinstance(self._tied, Named):
            rule, remedy = "a layer that is built", "Call it first, or build it."
            expect(self._tied.built, type(self).__name__, rule, remedy, tied_to=self._tied.name)
            self._checked(self._tied)
        axis, channels, outputs = self._channels()
        self.input_spec = keras.layers.InputSpec(min_ndim=self._rank(), axes={axis: channels})
        self._bias = None
        if self.use_bias:
            self._bias = self.add_weight(
                name="bias",
                shape=(outputs,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _channels(self):
        """Return the axis of the channels, their number, and that of the outputs'."""
        raise NotImplementedError

    @property
    def bias(self):
        """The bias, or None."""
        return self._bias

    def get_config(self):
        """Return the constructor arguments, and the shape of the kernel if it is known."""
        config = {
            "tied_to": reference(self._tied),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "kernel_shape": self._kernel_shape,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        """Return a new layer, tied to what it refers to or, before this is found, to a name."""
        config = dict(config)
        shape = config.pop("kernel_shape", None)
        layer = cls(referred(config.pop("tied_to")), **config)
        layer._kernel_shape = None if shape is None else tuple(shape)
        return layer
