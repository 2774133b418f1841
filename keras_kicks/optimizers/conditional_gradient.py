"""Conditional gradients."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.conditional_gradient import TowardsBall


@keras.saving.register_keras_serializable(package="keras_kicks")
class ConditionalGradient(NamedChain):
    """Steps towards the point of a ball where the linearized loss is least (Frank and Wolfe).

        s = the point of |s| <= limit for which g s is least
        w <- (1 - learning_rate) w + learning_rate s

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        limit: Radius of the ball of each variable, > 0.
        norm: "euclidean" or "nuclear".
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; limit > 0; norm to be one of the two.

    Source:
        Frank and Wolfe 1956; Ravi, Dinh, Lokhande and Singh 2018, arXiv:1803.06453. Departure: the learning rate is the
        length of the step; in TensorFlow Addons it was one minus that, the limit was `lambda_`.

    Example:
        >>> ConditionalGradient(0.1, limit=5.0).get_config()["norm"]
        'euclidean'
    """

    def __init__(self, learning_rate, limit, norm="euclidean", **kwargs):
        super().__init__([TowardsBall(limit, norm)], learning_rate, **kwargs)
