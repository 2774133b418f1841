"""What layers that store half of a symmetric kernel have in common."""

import keras

from keras_kicks.ops.mirror import first_half, half_shape, whole


class Mirrored:
    """Mixed into a Keras layer with `kernel` and `bias`: creates halves, and shows them whole.

    The layer's regularizers and constraints see whole weights; initializers draw them whole, and the second half is
    not used. A subclass says in `_mirrors` what is flipped.
    """

    def _mirrors(self, name):
        """Return the axes along which a weight of this name is flipped."""
        raise NotImplementedError

    def add_weight(self, shape=None, initializer=None, regularizer=None, constraint=None, name=None, **kwargs):
        """Create a weight, or half of it."""
        axes = self._mirrors(name)
        if axes:
            full = self._whole_shapes[name] = tuple(shape)
            shape, initializer = half_shape(full, axes), _of_whole(initializer, full, axes)
            if regularizer is not None:
                regularizer = _Whole(regularizer, full, axes)
            if constraint is not None:
                constraint = _ConstrainedWhole(constraint, full, axes)
        return super().add_weight(
            shape=shape, initializer=initializer, regularizer=regularizer, constraint=constraint, name=name, **kwargs
        )

    @property
    def kernel(self):
        """The whole kernel."""
        if not self.built:
            raise AttributeError("You must build the layer before accessing `kernel`.")
        return whole(self._kernel, self._whole_shapes["kernel"], self._mirrors("kernel"))

    @property
    def bias(self):
        """The whole bias, or None."""
        half, axes = self._half_bias, self._mirrors("bias")
        return whole(half, self._whole_shapes["bias"], axes) if half is not None and axes else half

    @bias.setter
    def bias(self, half):
        self._half_bias = half

    def save_own_variables(self, store):
        """Save the halves."""
        # Not Keras's own of these layers, which saves `kernel`.
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        """Load the halves."""
        keras.layers.Layer.load_own_variables(self, store)

    def get_prunable_weights(self):
        """Return none: `keras_kicks.compression` leaves the layer as it is, since no mask of a half is saved."""
        return []

    def enable_lora(self, *args, **kwargs):
        """Refuse: an update of low rank is not symmetric."""
        raise NotImplementedError(f"{type(self).__name__}: an update of low rank would not be symmetric.")

    def quantize(self, *args, **kwargs):
        """Refuse; `keras.Model.quantize` then skips the layer and says so."""
        raise NotImplementedError(f"{type(self).__name__}: half of a kernel cannot be quantized.")


class _Whole:
    """Applies a regularizer to the whole of a half. It is made anew when a layer is built, and never saved."""

    def __init__(self, function, shape, axes):
        self._function, self._shape, self._axes = function, shape, axes

    def __call__(self, half):
        return self._function(whole(half, self._shape, self._axes))


class _ConstrainedWhole(_Whole, keras.constraints.Constraint):
    """Applies a constraint likewise, and returns the half of what comes of it."""

    def __call__(self, half):
        return first_half(super().__call__(half), self._axes)


def _of_whole(initializer, shape, axes):
    """Return an initializer of the half, whose scale is that for the whole shape."""

    def half(_, dtype=None):
        return first_half(keras.initializers.get(initializer)(shape, dtype=dtype), axes)

    return half
