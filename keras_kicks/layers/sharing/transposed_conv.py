"""Transposed convolutions that have another layer's kernel."""

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks._references import Named
from keras_kicks.layers.sharing.transposed import Transposed


class TransposedConv(Transposed):
    """What they have in common."""

    rank = None

    def __init__(self, tied_to, activation=None, use_bias=True, output_padding=None, **kwargs):
        super().__init__(tied_to, activation, use_bias, **kwargs)
        several = isinstance(output_padding, (list, tuple))
        self.output_padding = list(output_padding) if several else output_padding

    def _rank(self):
        return self.rank + 2

    def _checked(self, layer):
        kernel, owner = super()._checked(layer), type(self).__name__
        settings = ("strides", "padding", "dilation_rate", "data_format", "groups")
        there = all(hasattr(layer, name) for name in settings)
        expect(there, owner, f"a keras.layers.Conv{self.rank}D", tied_to=layer.name)
        expect(layer.groups == 1, owner, "a convolution in one group", tied_to=layer.name, groups=layer.groups)
        rule = "a convolution with padding 'valid' or 'same'"
        expect(layer.padding in ("valid", "same"), owner, rule, tied_to=layer.name, padding=layer.padding)
        return kernel

    def _setting(self, name):
        """Return an argument of the convolution."""
        if isinstance(self._tied, Named):
            return self._tied.config["config"][name]
        return getattr(self._tied, name)

    def _channels(self):
        first = self._setting("data_format") == "channels_first"
        shape = self._kernel_shape or tuple(self.kernel.shape)
        return (1 if first else -1), shape[-1], shape[-2]

    def _transposed(self, inputs, kernel):
        padding = self.output_padding
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self._setting("strides")),
            padding=self._setting("padding"),
            output_padding=tuple(padding) if isinstance(padding, list) else padding,
            dilation_rate=self._setting("dilation_rate"),
            data_format=self._setting("data_format"),
        )

    def call(self, inputs):
        """Apply the transposed convolution."""
        # The axes of a kernel are (..., inputs, outputs) for a convolution and the other way round for a transposed
        # one: so it is the same tensor.
        y = self._transposed(inputs, self._tied_kernel())
        if self.bias is not None:
            first = self._setting("data_format") == "channels_first"
            y = ops.add(y, ops.reshape(self.bias, (1, -1, *[1] * self.rank) if first else (-1,)))
        return self.activation(y)

    def compute_output_shape(self, input_shape):
        """Return the shape of what the convolution took."""
        axis, channels, _ = self._channels()
        shape = tuple(input_shape)
        fits = len(shape) == self._rank() and shape[axis] in (None, channels)
        rule = f"inputs of {self._rank()} axes and {channels} channels"
        expect(fits, type(self).__name__, rule, input_shape=shape)
        kernel = keras.KerasTensor(self._kernel_shape or tuple(self.kernel.shape))
        return tuple(self._transposed(keras.KerasTensor(shape), kernel).shape)

    def get_config(self):
        """Return the constructor arguments, and the shape of the kernel if it is known."""
        return {**super().get_config(), "output_padding": self.output_padding}


@keras.saving.register_keras_serializable(package="keras_kicks")
class TransposedConv1D(TransposedConv):
    """Transposed 1D convolution with the kernel of another layer: the decoder of a tied autoencoder.

    See `keras_kicks.layers.TransposedConv2D`, which is the same for images.

    Args:
        tied_to: A `keras.layers.Conv1D` in one group, with padding "valid" or "same"; a `SymmetricConv1D` too. It must
            be built before this layer is, and becomes a part of it.
        activation: Applied to the outputs.
        use_bias: Whether there is a bias.
        output_padding: As in `keras.layers.Conv1DTranspose`.
        **kwargs: `bias_initializer`, `bias_regularizer`, `bias_constraint`, and base layer arguments.

    Call arguments:
        inputs: Shape (batch, steps, filters), floating: what the convolution returns.

    Returns:
        Shape (batch, more steps, channels): the shape of what the convolution takes, where the strides divide it.

    Raises:
        TypeError: `tied_to` is no layer.
        ValueError: expected a layer with a kernel of 3 axes; a convolution in one group; a convolution with padding
            'valid' or 'same'; a layer that is built, that is not quantized; in a copy, the one layer of this name in
            the model that is called.

    Masking:
        As in `keras.layers.Conv1DTranspose`: the mask is lost, with a warning.

    Source:
        Masci, Meier, Ciresan and Schmidhuber, "Stacked convolutional auto-encoders", ICANN 2011.

    Example:
        >>> encoder = keras.layers.Conv1D(4, 3, strides=2, padding="same")
        >>> model = keras.Sequential([keras.Input((8, 2)), encoder, TransposedConv1D(encoder)])
        >>> model.output_shape, [tuple(weight.shape) for weight in model.weights]
        ((None, 8, 2), [(3, 2, 4), (4,), (2,)])
    """

    rank = 1


@keras.saving.register_keras_serializable(package="keras_kicks")
class TransposedConv2D(TransposedConv):
    """Transposed 2D convolution with the kernel of another layer: the decoder of a tied autoencoder.

        y = activation(C^T x + b)   with C the convolution `tied_to`, without its bias

    Strides, padding, dilation and data format are those of the convolution, so that <C x, y> = <x, C^T y>. There is one
    kernel: the gradients of both places add up, a file holds it once, and after loading it is one again. The bias is
    the layer's own. How copies and clones find the kernel: see `keras_kicks.layers.TransposedDense`.

    Args:
        tied_to: A `keras.layers.Conv2D` in one group, with padding "valid" or "same"; a `SymmetricConv2D` too. It must
            be built before this layer is, as it is where it has been called in the same model. It becomes a part of
            this layer: `trainable = False` here freezes both.
        activation: Applied to the outputs.
        use_bias: Whether there is a bias.
        output_padding: As in `keras.layers.Conv2DTranspose`: integer or two, for sizes that the strides do not divide.
        **kwargs: `bias_initializer`, `bias_regularizer`, `bias_constraint`, and base layer arguments.

    Call arguments:
        inputs: Shape (batch, height, width, filters), floating: what the convolution returns.

    Returns:
        Shape (batch, height, width, channels): the shape of what the convolution takes, where the strides divide it.

    Raises:
        TypeError: `tied_to` is no layer.
        ValueError: expected a layer with a kernel of 4 axes; a convolution in one group; a convolution with padding
            'valid' or 'same'; a layer that is built, that is not quantized; in a copy, the one layer of this name in
            the model that is called.

    Masking:
        As in `keras.layers.Conv2DTranspose`: the mask is lost, with a warning.

    Source:
        Masci, Meier, Ciresan and Schmidhuber, "Stacked convolutional auto-encoders", ICANN 2011.

    Example:
        >>> encoder = keras.layers.Conv2D(4, 3, strides=2, padding="same")
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), encoder, TransposedConv2D(encoder)])
        >>> model.output_shape, [tuple(weight.shape) for weight in model.weights]
        ((None, 8, 8, 1), [(3, 3, 1, 4), (4,), (1,)])
    """

    rank = 2


@keras.saving.register_keras_serializable(package="keras_kicks")
class TransposedConv3D(TransposedConv):
    """Transposed 3D convolution with the kernel of another layer: the decoder of a tied autoencoder.

    See `keras_kicks.layers.TransposedConv2D`, which is the same for images.

    Args:
        tied_to: A `keras.layers.Conv3D` in one group, with padding "valid" or "same"; a `SymmetricConv3D` too. It must
            be built before this layer is, and becomes a part of it.
        activation: Applied to the outputs.
        use_bias: Whether there is a bias.
        output_padding: As in `keras.layers.Conv3DTranspose`.
        **kwargs: `bias_initializer`, `bias_regularizer`, `bias_constraint`, and base layer arguments.

    Call arguments:
        inputs: Shape (batch, depth, height, width, filters), floating: what the convolution returns.

    Returns:
        Shape (batch, depth, height, width, channels): that of what the convolution takes, where the strides divide it.

    Raises:
        TypeError: `tied_to` is no layer.
        ValueError: expected a layer with a kernel of 5 axes; a convolution in one group; a convolution with padding
            'valid' or 'same'; a layer that is built, that is not quantized; in a copy, the one layer of this name in
            the model that is called.

    Masking:
        As in `keras.layers.Conv3DTranspose`: the mask is lost, with a warning.

    Source:
        Masci, Meier, Ciresan and Schmidhuber, "Stacked convolutional auto-encoders", ICANN 2011.

    Example:
        >>> encoder = keras.layers.Conv3D(4, 2, strides=2)
        >>> model = keras.Sequential([keras.Input((4, 4, 4, 1)), encoder, TransposedConv3D(encoder)])
        >>> model.output_shape
        (None, 4, 4, 4, 1)
    """

    rank = 3
