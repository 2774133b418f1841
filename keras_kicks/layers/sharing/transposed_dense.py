"""A dense layer that has another one's kernel, transposed."""

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.layers.sharing.transposed import Transposed


@keras.saving.register_keras_serializable(package="keras_kicks")
class TransposedDense(Transposed):
    """Dense layer whose kernel is the transpose of another layer's: the decoder of an autoencoder with tied weights.

        y = activation(x K^T + b)   with K the kernel of the layer `tied_to`

    There is one kernel: the gradients of both places add up, a file holds it once, and after loading it is one again.
    The bias is the layer's own.

    In the copies that `from_config` and `keras.models.clone_model` make, it is tied to the copy's layer of the same
    name: one of those that the inputs come from, or one in the model that is called. Saved without the encoder, a
    decoder takes the kernel along.

    Args:
        tied_to: The layer with the kernel, of shape (outputs, inputs), such as a `keras.layers.Dense`. It must be built
            before this layer is, as it is where it has been called in the same model. It becomes a part of this layer:
            `trainable = False` here freezes both.
        activation: Applied to the outputs.
        use_bias: Whether there is a bias.
        bias_initializer: Initializer of the bias.
        bias_regularizer: Regularizer of the bias.
        bias_constraint: Constraint of the bias.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, ..., inputs), floating: what the other layer returns.

    Returns:
        Shape (batch, ..., outputs), in the compute dtype: the shape of what the other layer takes.

    Raises:
        TypeError: `tied_to` is no layer.
        ValueError: expected a layer with a kernel of 2 axes; a layer that is built, that is not quantized; in a copy,
            the one layer of this name in the model that is called.

    Masking:
        The mask is passed on.

    Source:
        Vincent, Larochelle, Lajoie, Bengio and Manzagol, "Stacked denoising autoencoders", JMLR 2010, section 2.2.

    Example:
        >>> encoder = keras.layers.Dense(2)
        >>> model = keras.Sequential([keras.Input((5,)), encoder, TransposedDense(encoder)])
        >>> [tuple(weight.shape) for weight in model.weights]
        [(5, 2), (2,), (5,)]
    """

    def __init__(self, tied_to, activation=None, use_bias=True, **kwargs):
        super().__init__(tied_to, activation, use_bias, **kwargs)
        self.supports_masking = True

    def _rank(self):
        return 2

    def _channels(self):
        outputs, inputs = self._known_shape()
        return -1, inputs, outputs

    def _known_shape(self):
        return self._kernel_shape or tuple(self.kernel.shape)

    def call(self, inputs):
        """Multiply by the transposed kernel."""
        y = ops.matmul(inputs, ops.transpose(self._tied_kernel()))
        if self.bias is not None:
            y = ops.add(y, self.bias)
        return self.activation(y)

    def compute_output_shape(self, input_shape):
        """Return the input shape with the other layer's inputs as its last dimension."""
        shape, (outputs, inputs) = tuple(input_shape), self._known_shape()
        rule = f"inputs of {inputs} features"
        expect(shape[-1] in (None, inputs), type(self).__name__, rule, input_shape=shape)
        return (*shape[:-1], outputs)
