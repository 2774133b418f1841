"""The distance between two lists of tensors."""

import keras
from keras import ops

from keras_kicks.ops.norms import lp_norm, sum_of_squares


def lp_distance(pairs, p, squared=False):
    """Return (sum |a - b|^p)^(1/p) over all elements of all pairs, or its square; the largest for an infinite p.

    In float32, or wider if an `a` is, whatever `b` are. The gradient by an element whose difference is 0 is 0, also
    where all are.
    """
    pairs = [(ops.convert_to_tensor(a), ops.convert_to_tensor(b)) for a, b in pairs]
    dtype = keras.backend.result_type("float32", *(a.dtype for a, _ in pairs))
    differences = [ops.subtract(ops.cast(a, dtype), ops.cast(b, dtype)) for a, b in pairs]
    if p == 2:
        # Plain squares: the passes of `lp_norm` over all weights of a model would show beside a train step. Squares
        # leave the range of float32 for differences below 1e-23 and above 1e19, where no weights are.
        total = sum(map(sum_of_squares, differences))
        if squared:
            return total
        some = ops.not_equal(total, 0)  # So is NaN.
        return ops.where(some, ops.sqrt(ops.where(some, total, ops.ones_like(total))), ops.zeros_like(total))
    norms = [lp_norm(difference, p) for difference in differences]
    norm = norms[0] if len(norms) == 1 else lp_norm(ops.stack(norms), p)
    return ops.square(norm) if squared else norm
