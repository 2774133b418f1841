"""Representative data: every form that users pass it in gives the same batches."""

import re

import keras
import numpy as np
import pytest
from compression.lite_models import drawn
from keras import ops

from keras_kicks.compression.samples import representative_batches, rows_of
from keras_kicks.compression.served import Signature

pytestmark = pytest.mark.tensorflow
X, Y = drawn(20, 3), drawn(20, 2, seed=1)


def spec(*shape, dtype="float32"):
    return keras.InputSpec(shape=shape, dtype=dtype)


ONE = Signature(spec(1, 3), ["x"], False)
LIST = Signature([spec(1, 3), spec(1, 2)], ["x", "y"], False)
DICT = Signature({"x": spec(1, 3), "y": spec(1, 2)}, ["x", "y"], False)


def collected(data, signature):
    found = list(representative_batches("test", data, signature))
    return {name: np.concatenate([batch[name] for batch in found]) for name in signature.names}


def datasets():
    import tensorflow as tf

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return X[10 * i : 10 * i + 10], None

    data = tf.data.Dataset.from_tensor_slices(X)
    both = tf.data.Dataset.from_tensor_slices(({"x": X, "y": Y}, np.zeros(20)))
    lists = (([X[i : i + 5], Y[i : i + 5]], None) for i in range(0, 20, 5))
    return [
        (X, ONE),
        (X.astype("float64"), ONE),
        (ops.convert_to_tensor(X), ONE),
        ((X, None), ONE),
        ({"x": X}, ONE),
        (np.split(X, 4), ONE),
        (data.batch(7), ONE),
        (tf.data.Dataset.zip(data, data).batch(7), ONE),
        (Batches(), ONE),
        ({"y": Y, "x": X}, DICT),
        (both.batch(7), DICT),
        ([X, Y], LIST),
        ({"y": Y, "x": X}, LIST),
        (([X, Y], None), LIST),
        (lists, LIST),
    ]


@pytest.mark.parametrize("i", range(15))
def test_every_form_gives_the_same_batches(i):
    data, signature = datasets()[i]
    found = collected(data, signature)
    for name, value in {"x": X, "y": Y}.items():
        if name in signature.names:
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == np.float32


def test_the_last_batch_is_filled_up_from_the_beginning():
    assert [rows.tolist() for rows in rows_of(5, 2)] == [[0, 1], [2, 3], [4, 0]]
    assert [rows.tolist() for rows in rows_of(2, 5)] == [[0, 1, 0, 1, 0]]
    assert list(rows_of(0, 2)) == []
    found = list(representative_batches("test", X[:5], Signature(spec(2, 3), ["x"], False)))
    np.testing.assert_array_equal(found[2]["x"], X[[4, 0]])


def test_integers_are_cast_where_they_fit():
    signature = Signature(spec(1, 3, dtype="uint8"), ["x"], False)
    assert collected(np.full((2, 3), 255), signature)["x"].dtype == np.uint8
    message = "test: expected inputs that uint8 holds; got input='x', value=[256]."
    with pytest.raises(ValueError, match=re.escape(message)):
        collected(np.full((2, 3), 256), signature)
