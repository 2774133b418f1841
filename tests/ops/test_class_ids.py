"""Class ids outside the range."""

import numpy as np
import pytest
from keras import ops

from keras_kicks.ops.class_ids import check_class_ids


def test_ids_in_the_range_are_returned():
    ids = np.array([0, 2, 1, 2], "int32")
    np.testing.assert_array_equal(ops.convert_to_numpy(check_class_ids(ops.convert_to_tensor(ids), 3, "Owner")), ids)


def test_no_ids_are_no_wrong_ids():
    assert tuple(check_class_ids(ops.zeros((0,), "int32"), 3, "Owner").shape) == (0,)


@pytest.mark.tensorflow
@pytest.mark.parametrize("wrong", [-1, 3, 2**31 - 1])
@pytest.mark.parametrize("graph", [False, True])
def test_an_id_outside_is_named(wrong, graph):
    import tensorflow as tf

    def check(ids):
        return check_class_ids(ids, 3, "Owner")

    run = tf.function(check) if graph else check
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Owner: expected class ids in \[0, 3\); got") as error:
        run(tf.constant([0, wrong, 2]))
    assert str(wrong) in str(error.value)
    assert "ignore_class" in str(error.value)
