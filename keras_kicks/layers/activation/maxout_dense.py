"""Dense layer of maxout units."""

import keras
import numpy as np
from keras import ops

from keras_kicks._curves import draw_curves
from keras_kicks._errors import expect, expect_integer
from keras_kicks.ops.maxout import maxout


@keras.saving.register_keras_serializable(package="keras_kicks")
class MaxoutDense(keras.layers.Layer):
    """Dense layer whose units each take the maximum of `pool_size` linear functions.

        y_j = activation(max over i < pool_size of (x . W[:, i units + j] + b[i units + j]))

    Args:
        units: Number of outputs, >= 1.
        pool_size: Linear pieces of each unit, >= 1.
        activation: Applied to the maximum; by default nothing, since the maximum is the nonlinearity.
        use_bias: Whether the pieces have a bias.
        kernel_initializer: Initializer of `kernel`, shape (inputs, pool_size * units).
        bias_initializer: Initializer of `bias`, shape (pool_size * units,).
        kernel_regularizer: Regularizer of `kernel`.
        bias_regularizer: Regularizer of `bias`.
        activity_regularizer: Regularizer of the output.
        kernel_constraint: Constraint of `kernel`.
        bias_constraint: Constraint of `bias`.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, ..., inputs), floating.

    Returns:
        Shape (batch, ..., units), in the compute dtype. On a tie the gradient goes to the first of the largest
        pieces.

    Raises:
        TypeError: `units` or `pool_size` is no integer.
        ValueError: expected units >= 1; pool_size >= 1; an input of rank 2 or more whose last dimension is known when
            the layer is built.

    Masking:
        The mask is passed on.

    Source:
        Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout Networks", 2013, arXiv:1302.4389.

    Example:
        >>> import numpy as np
        >>> layer = MaxoutDense(1, pool_size=2)
        >>> layer.build((None, 1))
        >>> layer.set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
        >>> keras.ops.convert_to_numpy(layer(np.array([[-3.0], [2.0]]))).tolist()  # |x|
        [[3.0], [2.0]]
    """

    def __init__(
        self,
        units,
        pool_size,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        owner = type(self).__name__
        expect_integer(owner, units=units, pool_size=pool_size)
        expect(units >= 1, owner, "units >= 1", units=units)
        expect(pool_size >= 1, owner, "pool_size >= 1", pool_size=pool_size)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = int(units)
        self.pool_size = int(pool_size)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.supports_masking = True

    def build(self, input_shape):
        """Create `kernel` and `bias`."""
        self.compute_output_shape(input_shape)
        inputs, outputs = input_shape[-1], self.pool_size * self.units
        self.kernel = self.add_weight(
            name="kernel",
            shape=(inputs, outputs),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(outputs,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})

    def call(self, inputs):
        """Take the maximum of the linear pieces."""
        pieces = ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            pieces = ops.add(pieces, self.bias)
        # Strided pieces are contiguous blocks of columns, which makes the maximum a plain elementwise one.
        y = maxout(pieces, self.pool_size, "strided")
        return self.activation(y)

    def compute_output_shape(self, input_shape):
        """Return the input shape with `units` as its last dimension."""
        owner, shape = type(self).__name__, tuple(input_shape)
        fits = len(shape) >= 2 and shape[-1] is not None
        expect(fits, owner, "an input of rank 2 or more whose last dimension is known", input_shape=shape)
        return (*shape[:-1], self.units)

    def tensorboard_images(self):
        """Return a picture of the first units for `keras_kicks.callbacks.TensorBoard`: the activations learned so far.

        Each tile shows a unit (dark) and its linear pieces (grey) along the line through the origin on which the
        pieces differ most, from -3 to 3.

        Returns:
            `{"activations": float32 array of shape (height, width, 3)}`, in [0, 1]; nothing before the layer is built
            and where a weight is not finite.
        """
        if not self.built or not all(np.isfinite(weight).all() for weight in self.get_weights()):
            return {}
        count = min(self.units, 8)
        kernel = ops.convert_to_numpy(self.kernel).reshape(-1, self.pool_size, self.units)[..., :count]
        bias = np.zeros((self.pool_size, count))
        if self.bias is not None:
            bias = ops.convert_to_numpy(self.bias).reshape(self.pool_size, self.units)[:, :count]
        t = np.linspace(-3, 3, 121)
        curves = []
        for weights, offsets in zip(kernel.transpose(2, 1, 0), bias.T, strict=True):
            spread = weights - weights.mean(axis=0) if self.pool_size > 1 else weights
            direction = np.linalg.svd(spread.astype("float64"), full_matrices=False)[2][0]
            pieces = (weights @ direction)[:, None] * t + offsets[:, None]
            curves.append([*pieces, pieces.max(axis=0)])
        return {"activations": draw_curves(t, curves)}

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "units": self.units,
            "pool_size": self.pool_size,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }
        return {**super().get_config(), **config}
