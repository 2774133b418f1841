"""The mask that Keras hangs on a tensor, with the private functions this rests on."""

import keras
import numpy as np
from keras import ops

from keras_kicks.ops.keras_mask import get_mask, set_mask


def test_a_mask_is_read_back():
    x = ops.ones((2, 3))
    assert get_mask(x) is None
    mask = ops.convert_to_tensor(np.array([True, False]))
    assert set_mask(x, mask) is x
    np.testing.assert_array_equal(ops.convert_to_numpy(get_mask(x)), [True, False])


def test_the_mask_of_a_keras_layer_is_found():
    y = keras.layers.Masking()(np.array([[[0.0], [1.0]]], "float32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(get_mask(y)), [[False, True]])


def test_keras_losses_average_over_what_the_mask_leaves():
    class Difference(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return set_mask(y_pred - y_true, ops.convert_to_tensor(np.array([True, False, True])))

    loss = Difference()(np.zeros(3, "float32"), np.array([1.0, 100.0, 3.0], "float32"))
    np.testing.assert_allclose(float(loss), 2.0)
