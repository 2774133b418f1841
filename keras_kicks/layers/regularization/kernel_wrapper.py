"""A wrapper of any layer with a kernel, which runs it with another one."""

import keras

from keras_kicks._errors import expect


class KernelWrapper(keras.layers.Wrapper):
    """Calls a layer; subclasses put other values in place of its kernels.

    Args:
        layer: A layer with a kernel, or a recurrent layer whose cells have one, also a Bidirectional one.
        **kwargs: Base layer arguments; the dtype policy is the wrapped layer's.
    """

    def __init__(self, layer, **kwargs):
        owner = type(self).__name__
        expect(isinstance(layer, keras.layers.Layer), owner, "a keras layer", error=TypeError, layer=layer)
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        # Kernels are changed in the variables' dtype; the wrapped layer casts the result and its inputs itself.
        self.autocast = False
        self.supports_masking = layer.supports_masking
        if layer.built:
            self._kernels()

    def build(self, input_shape):
        """Build the wrapped layer and find its kernels."""
        super().build(input_shape)
        self._kernels()

    def _kernels(self):
        """Return the layer's kernel, or those of its cells."""
        directions = [getattr(self.layer, name, None) for name in ("forward_layer", "backward_layer")]
        owners = []
        for layer in [self.layer] if None in directions else directions:
            cell = getattr(layer, "cell", layer)
            owners += getattr(cell, "cells", [cell])
        kernels = [getattr(owner, name, None) for owner in owners for name in ("kernel", "recurrent_kernel")]
        kernels = [kernel for kernel in kernels if kernel is not None]
        expect(
            len(kernels) > 0,
            type(self).__name__,
            "a layer whose kernel is a variable",
            "Wrap the Dense, convolutional or recurrent layer itself.",
            layer=type(self.layer).__name__,
        )
        return kernels

    def _expect_floating_kernels(self, task):
        """Refuse a quantized kernel, of which no factor makes anything sensible."""
        dtypes = [keras.backend.standardize_dtype(kernel.dtype) for kernel in self._kernels()]
        floating = all(keras.backend.is_float_dtype(dtype) for dtype in dtypes)
        expect(
            floating, type(self).__name__, f"a floating kernel to {task}", "Train before you quantize.", dtypes=dtypes
        )

    def _expect_variable_kernels(self, rule):
        """Refuse a kernel with an adapter, which is no variable that another tensor could stand for."""
        kind = type(self.layer).__name__
        variables = all(isinstance(kernel, keras.Variable) for kernel in self._kernels())
        expect(variables, type(self).__name__, rule, "Do not enable LoRA.", layer=kind)

    def compute_output_shape(self, input_shape):
        """Return the wrapped layer's output shape."""
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs, previous_mask):
        """Return the wrapped layer's mask."""
        return self.layer.compute_mask(inputs, previous_mask)
