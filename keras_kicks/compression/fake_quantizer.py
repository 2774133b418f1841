"""What makes a tensor take 256 values at most in training: TFMOT's quantizers, with variables of Keras 3."""

import numpy as np
from keras import ops

from keras_kicks.compression._tfmot import tfmot

# By kind: module below TFMOT's quantization, class, arguments.
_WHOLE = {"num_bits": 8, "per_axis": False, "symmetric": False, "narrow_range": False}
_SYMMETRIC = {**_WHOLE, "symmetric": True, "narrow_range": True}
_KINDS = {
    "per_tensor": ("quantizers", "LastValueQuantizer", _SYMMETRIC),
    "per_channel": ("default_8bit.default_8bit_quantizers", "Default8BitConvWeightsQuantizer", {}),
    "moving_average": ("quantizers", "MovingAverageQuantizer", _WHOLE),
    "all_values": ("quantizers", "AllValuesQuantizer", _WHOLE),
}
WEIGHT_KINDS = ("per_tensor", "per_channel")


class FakeQuantizer:
    """Rounds a tensor to 8 bits within a range, which it learns from what it sees in training.

    Args:
        layer: The layer to add the two variables of the range to.
        name: Of the tensor.
        kind: "per_tensor" or "per_channel" (of the last axis, of rank 2 to 4) for weights, whose range is that of their
            last values; "moving_average" for activations, "all_values" for inputs of the model.
        shape: Shape of the tensor; for weights.
    """

    def __init__(self, layer, name, kind, shape=None):
        module, class_name, arguments = _KINDS[kind]
        self._kind = kind
        self._quantizer = getattr(tfmot(f"quantization.keras.{module}"), class_name)(**arguments)
        # The kernel of a sequence is that of an image of one row; TFMOT knows no channels of rank 3.
        self._of_row = kind == "per_channel" and len(shape) == 3
        ranges = self._quantizer.build((1, *shape) if self._of_row else shape, name, _Owner(layer))
        self.low, self.high = ranges["min_var"], ranges["max_var"]
        if kind == "all_values":
            # It starts as an empty range, of which XLA makes NaN.
            self.high.assign(np.finfo("float32").tiny * 2**16)
        # While it observes: how many batches, and the sums of their ranges or the widest.
        self._seen = None

    def __call__(self, x, training):
        """Return the rounded tensor; in training, adapt the range to it first."""
        if self._seen is not None:
            self._observe(ops.convert_to_numpy(x))
            return x
        low, high = self.low.value, self.high.value
        if training and self._kind in WEIGHT_KINDS:
            low, high = _Bound(low, -1.0), _Bound(high, 1.0)
        x = x[None] if self._of_row else x
        x = self._quantizer(x, training, weights={"min_var": low, "max_var": high})
        return x[0] if self._of_row else x

    def observe(self):
        """Pass tensors on as they are from now on, and note their ranges."""
        self._seen = (0, 0.0, 0.0)

    def _observe(self, x):
        count, low, high = self._seen
        # Zero has to be in the range, for padding to be exact.
        now_low, now_high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        if self._kind == "all_values":
            low, high = min(low, now_low), max(high, now_high)
        else:
            low, high = low + now_low, high + now_high
        self._seen = (count + 1, low, high)

    def is_finite(self):
        """Return whether all that was observed is."""
        return bool(np.isfinite(self._seen).all())

    def settle(self, keep):
        """Round again, within the mean range of the batches that were seen (of inputs, the widest).

        Args:
            keep: Whether to take the range; else, or if it is empty, it is as before.
        """
        (count, low, high), self._seen = self._seen, None
        if keep and low < high:
            divisor = 1 if self._kind == "all_values" else count
            self.low.assign(low / divisor)
            self.high.assign(high / divisor)


class _Owner:
    """Adds variables to a layer of Keras 3 for a caller that is used to Keras 2."""

    def __init__(self, layer):
        self._layer = layer

    def add_weight(self, name, initializer, trainable, shape=None):
        def initial(shape, dtype=None):
            return ops.convert_to_tensor(initializer(shape, dtype), dtype)

        # TFMOT assigns to the variable itself, and to each replica its own; so the variable is never cast, and
        # agrees on the mean.
        return self._layer.add_weight(
            name=name, shape=shape or (), initializer=initial, trainable=trainable, autocast=False, aggregation="mean"
        )


class _Bound:
    """An end of the range of weights, as TFMOT assigns it, that is not zero for those of a channel that was pruned.

    XLA makes NaN of an empty range, and an integer bias has no scale in one.
    """

    def __init__(self, variable, of_zeros):
        self._variable = variable
        self._of_zeros = of_zeros

    def assign(self, value, name=None):
        return self._variable.assign(ops.where(ops.equal(value, 0), self._of_zeros, value), name=name)
