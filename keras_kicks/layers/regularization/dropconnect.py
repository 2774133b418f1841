"""DropConnect around any layer with a kernel."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_rate, expect_seed
from keras_kicks.layers.regularization.kernel_wrapper import KernelWrapper
from keras_kicks.ops.dropconnect import LEVELS, keep_levels, masked_kernel, sampled_matmul
from keras_kicks.ops.random import draw_normal
from keras_kicks.ops.substitution import substituted

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_LINEAR = (keras.layers.Dense, keras.layers.EinsumDense, *_CONVOLUTIONS)


@keras.saving.register_keras_serializable(package="keras_kicks")
class DropConnect(KernelWrapper):
    """Drops connections: in training each weight of the wrapped layer's kernel is zeroed with probability `rate`.

        training:   y = layer(x) with W * M / (1 - rate) for the kernel W,  M ~ Bernoulli(1 - rate)
        inference:  y = layer(x)                                                    inference="mean"
                    y = mean over samples of activation(u),  u ~ N(x W + b, rate / (1 - rate) x^2 W^2)   "gaussian"

    Since the kept weights are scaled up, the expectation of x W in training is x W. Biases are never dropped. The
    wrapped layer is not changed, so it may be shared with other parts of the model; its constraints and regularizers
    see the undropped kernel. A recurrent layer draws one mask for its input kernel and one for its recurrent kernel,
    for the whole sequence.

    Args:
        layer: A layer with a kernel: Dense, EinsumDense, Conv1D/2D/3D and others, or a recurrent layer whose cells
            have one, also a Bidirectional one.
        rate: Share of the connections to drop, in [0, 1); resolved to 2^-15.
        mask: "batch", one mask for all examples of a batch (on every replica the same), or "sample", one for each
            example (Dense only; the cost is that of drawing inputs x units numbers for each).
        inference: "mean" or "gaussian" (Dense, EinsumDense, Conv1D/2D/3D). "gaussian" matches mean and variance
            of the pre-activation, as the paper does; outputs of a convolution are taken as independent. It makes
            inference random.
        seed: None or an integer.
        samples: Number of draws that inference="gaussian" averages, >= 1.
        **kwargs: Base layer arguments, such as `name`; the dtype policy is the wrapped layer's.

    Call arguments:
        inputs: What the wrapped layer takes.
        training: Whether to drop.
        **kwargs: Passed to the wrapped layer, such as `initial_state` and `mask`.

    Returns:
        What the wrapped layer returns.

    Raises:
        TypeError: `layer` is no Keras layer, `rate` no number, `samples` no integer.
        ValueError: expected 0 <= rate < 1; a known mask and inference; samples >= 1; a Dense layer for
            mask="sample"; a linear layer for inference="gaussian"; a layer with a kernel (when built); where it
            drops, a floating kernel, not a quantized one, and for mask="batch" one without LoRA.

    Masking:
        As the wrapped layer.

    Source:
        Wan, Zeiler, Zhang, LeCun and Fergus, "Regularization of Neural Networks using DropConnect", ICML 2013.
        Departures: kept weights are scaled by 1 / (1 - rate) in training, not in inference; one mask a batch by
        default. One recurrent mask a sequence is due to Merity, Keskar and Socher, 2017, arXiv:1708.02182.

    Example:
        >>> import numpy as np
        >>> layer = DropConnect(keras.layers.Dense(1, kernel_initializer="ones"), rate=0.5, seed=0)
        >>> x = np.ones((1, 4))
        >>> keras.ops.convert_to_numpy(layer(x)).tolist()
        [[4.0]]
        >>> keras.ops.convert_to_numpy(layer(x, training=True))[0, 0] in (0.0, 2.0, 4.0, 6.0, 8.0)
        True
    """

    def __init__(self, layer, rate, mask="batch", inference="mean", seed=None, samples=16, **kwargs):
        owner = type(self).__name__
        super().__init__(layer, **kwargs)
        expect_rate(owner, rate=rate)
        expect_choice(owner, ("batch", "sample"), mask=mask)
        expect_choice(owner, ("mean", "gaussian"), inference=inference)
        expect_seed(owner, seed)
        expect_integer(owner, samples=samples)
        expect(samples >= 1, owner, "samples >= 1", samples=samples)
        kind = type(layer).__name__
        if mask == "sample":
            dense = isinstance(layer, keras.layers.Dense)
            expect(dense, owner, 'a Dense layer for mask="sample"', 'Use mask="batch".', layer=kind)
        if inference == "gaussian":
            linear = isinstance(layer, _LINEAR)
            rule = 'Dense, EinsumDense or Conv1D/2D/3D for inference="gaussian"'
            expect(linear, owner, rule, 'Use inference="mean".', layer=kind)
        self.rate = float(rate)
        self.mask = mask
        self.inference = inference
        self.seed = seed
        self.samples = int(samples)
        self.seed_generator = keras.random.SeedGenerator(seed)
        # Keras's own way to collect the loss, which depends on its version, where the wrapped layer is not called.
        self.activity = keras.layers.Activation(
            "linear", activity_regularizer=layer.activity_regularizer, dtype=layer.dtype_policy
        )

    def call(self, inputs, training=None, **kwargs):
        """Call the wrapped layer with dropped connections."""
        if self.rate > 0 and training:
            self._expect_floating_kernels("drop from")
            if self.mask == "sample":
                return self._call_sampled(inputs)
            return self._call_masked(inputs, training, kwargs)
        if self.rate > 0 and self.inference == "gaussian" and not self._is_linear():
            self._expect_floating_kernels("drop from")
            return self._call_gaussian(inputs)
        return self.layer(inputs, training=training, **kwargs)

    def _is_linear(self):
        return self.layer.activation in (None, keras.activations.linear)

    def _call_masked(self, inputs, training, kwargs):
        self._expect_variable_kernels('a kernel that is a variable for mask="batch"')
        replacements = [
            (kernel, masked_kernel(kernel.value, self.rate, self.seed_generator)) for kernel in self._kernels()
        ]
        with substituted(self.layer, replacements, self.add_loss):
            return self.layer(inputs, training=training, **kwargs)

    def _call_sampled(self, inputs):
        layer, dtype = self.layer, self.layer.compute_dtype
        x, kernel = ops.cast(inputs, dtype), ops.cast(layer.kernel, dtype)
        shape = ops.shape(x)
        flat = ops.reshape(x, (shape[0], math.prod(shape[1:-1]), x.shape[-1]))
        y = sampled_matmul(flat, kernel, self.rate, self.seed_generator)
        return self.activity(self._finished(ops.reshape(y, (*shape[:-1], layer.units))))

    def _call_gaussian(self, inputs):
        layer = self.layer
        wide = keras.backend.result_type(layer.compute_dtype, "float32")
        x, kernel = ops.cast(inputs, wide), ops.cast(layer.kernel, wide)
        kept = keep_levels(self.rate) / LEVELS
        mean = self._linear(x, kernel)
        variance = self._linear(ops.square(x), ops.square(kernel)) * ((1 - kept) / kept)
        noise = draw_normal((self.samples, *ops.shape(mean)), self.seed_generator, per_replica=True)
        y = self._finished(mean + ops.sqrt(ops.maximum(variance, 0.0)) * ops.cast(noise, wide))
        return self.activity(ops.cast(ops.mean(y, axis=0), layer.compute_dtype))

    def _linear(self, x, kernel):
        if isinstance(self.layer, _CONVOLUTIONS):
            return self.layer.convolution_op(x, kernel)
        if isinstance(self.layer, keras.layers.EinsumDense):
            return ops.einsum(self.layer.equation, x, kernel)
        return ops.matmul(x, kernel)

    def _finished(self, y):
        """Add the bias and apply the activation, as the layer does after its product."""
        layer = self.layer
        if layer.bias is not None:
            bias = ops.cast(layer.bias, y.dtype)
            if getattr(layer, "data_format", None) == "channels_first":
                bias = ops.reshape(bias, (-1, *(1,) * layer.rank))
            y = y + bias
        if layer.activation is not None:
            y = layer.activation(y)
        return y

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "rate": self.rate,
            "mask": self.mask,
            "inference": self.inference,
            "seed": self.seed,
            "samples": self.samples,
        }
        return {**super().get_config(), **config}
