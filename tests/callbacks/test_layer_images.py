"""Who is asked for pictures, and which pictures are refused."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.callbacks.layer_images import pictures
from keras_kicks.layers import DropConnect, MaxoutDense


class Draws:
    """Contributes a picture of one grey."""

    grey = 0.5

    def tensorboard_images(self):
        return {"grey": np.full((2, 3, 1), self.grey)}


class DrawingLayer(Draws, layers.Dense):
    pass


class DrawingRegularizer(Draws, keras.regularizers.L2):
    pass


class DrawingLoss(Draws, keras.losses.MeanSquaredError):
    pass


class DrawingModel(Draws, keras.Model):
    def __init__(self, *parts):
        super().__init__(name="drawing")
        self.parts = list(parts)
        self.kind = DrawingLayer

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def test_layers_models_losses_and_regularizers_are_asked():
    inner = keras.Sequential([DropConnect(DrawingLayer(3, name="layer"), 0.5, name="wrapper")], name="inner")
    model = DrawingModel(inner, layers.Dense(1, kernel_regularizer=DrawingRegularizer(0.1), name="dense"))
    model.compile("sgd", DrawingLoss(name="own_loss"))
    found = pictures("Owner", model, {"mine": lambda model: np.zeros((1, 1, 3), "uint8")})
    greys = ["grey", "inner/wrapper/layer/grey", "dense/kernel_regularizer/grey", "own_loss/grey"]
    assert sorted(found) == sorted([*greys, "mine"])
    assert all(found[tag].shape == (1, 2, 3, 1) and (found[tag] == 0.5).all() for tag in greys)
    assert found["mine"].dtype == "uint8"


def test_losses_of_the_same_name_are_told_apart():
    x = keras.Input((2,))
    model = keras.Model(x, {"a": layers.Dense(1, name="a")(x), "b": layers.Dense(1, name="b")(x)})
    model.compile("sgd", {"a": DrawingLoss(), "b": DrawingLoss()})
    assert set(pictures("Owner", model, {})) == {"mean_squared_error/grey", "mean_squared_error_1/grey"}


def test_the_function_is_given_the_model():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="dense")])
    found = pictures("Owner", model, {"kernel": lambda m: keras.ops.sigmoid(m.get_layer("dense").kernel)[..., None]})
    kernel = model.layers[0].get_weights()[0]
    np.testing.assert_allclose(found["kernel"][0, ..., 0], 1 / (1 + np.exp(-kernel)), rtol=1e-5)


def test_maxout_units_without_numbers_are_not_drawn():
    """Neither before the layer is built nor when training diverged."""
    layer = MaxoutDense(2, 3)
    assert layer.tensorboard_images() == {}
    layer.build((None, 4))
    assert list(layer.tensorboard_images()) == ["activations"]
    layer.set_weights([np.full((4, 6), np.nan), np.zeros(6)])
    assert layer.tensorboard_images() == {}


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((3, 3)), ValueError, "expected an image of shape"),
        (np.zeros((3, 3, 2)), ValueError, "expected an image of shape"),
        (np.zeros((0, 3, 3, 1)), ValueError, "expected an image of shape"),
        (np.full((3, 3, 1), 2.0), ValueError, "in [0, 1] or of dtype uint8; got tag='mine', dtype='float64'. Divide"),
        (np.full((3, 3, 1), np.nan), ValueError, "in [0, 1] or of dtype uint8"),
        (np.zeros((3, 3, 1), "int64"), ValueError, "in [0, 1] or of dtype uint8"),
        ([[1], [1, 2]], TypeError, "expected an image that is an array; got tag='mine', image=[[1], [1, 2]]."),
        (None, TypeError, "expected an image that is an array; got tag='mine', image=None."),
    ],
)
def test_wrong_pictures_are_refused(image, error, message):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    with pytest.raises(error, match=f"Owner: .*{re.escape(message)}"):
        pictures("Owner", model, {"mine": lambda model: image})


def test_who_failed_to_draw_is_named(tmp_path):
    model = keras.Sequential([keras.Input((2,)), DrawingLayer(1, name="layer")])
    # The tag that the layer has already.
    with pytest.raises(ValueError, match=r"expected images of other tags .* got tag='layer/grey'\. Rename it\."):
        pictures("Owner", model, {"layer/grey": lambda model: np.zeros((2, 2, 1))})
    message = r"Owner: expected a picture from images\['mine'\]; got error=ZeroDivisionError\('division by zero'\)\."
    with pytest.raises(RuntimeError, match=message) as raised:
        pictures("Owner", model, {"mine": lambda model: 1 / 0})
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    model.layers[0].grey = 2.0
    with pytest.raises(ValueError, match="tag='layer/grey'"):
        pictures("Owner", model, {})
    model.layers[0].tensorboard_images = lambda: [1]
    with pytest.raises(TypeError, match=r"expected a dict from layer.tensorboard_images\(\); got images=\[1\]\."):
        pictures("Owner", model, {})
    model.layers[0].tensorboard_images = lambda: 1 / 0
    with pytest.raises(RuntimeError, match=r"expected a picture from layer.tensorboard_images\(\); got error=Zero"):
        pictures("Owner", model, {})
