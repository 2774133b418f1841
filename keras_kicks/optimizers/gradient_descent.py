"""Steepest descent, with the gradient of all data or of a mini-batch."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.transform import Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class GradientDescent(NamedChain):
    """Steps against the gradient.

        w <- w - learning_rate g

    With the gradient of all data it ends in the minimum whose valley it starts in.

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: the learning rate is no number, schedule or function.
        ValueError: expected learning_rate > 0.

    Source:
        Cauchy 1847.

    Example:
        >>> w = keras.Variable(4.0)
        >>> GradientDescent(0.25).apply([keras.ops.convert_to_tensor(8.0)], [w])
        >>> float(w.numpy())
        2.0
    """

    def __init__(self, learning_rate=0.01, **kwargs):
        super().__init__([Transform()], learning_rate, **kwargs)


@keras.saving.register_keras_serializable(package="keras_kicks")
class SGD(GradientDescent):
    """Steps against the gradient of a mini-batch: stochastic gradient descent.

        w <- w - learning_rate g

    The formula is that of `GradientDescent`. What differs is the gradient: batches drawn at random make the loss
    another one in each step, so that what is a minimum for one batch is none for the next.

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: the learning rate is no number, schedule or function.
        ValueError: expected learning_rate > 0.

    Source:
        Robbins and Monro 1951. `keras.optimizers.SGD` has momentum too; here that is `Momentum` and `Nesterov`.

    Example:
        >>> SGD(0.1).get_config()["weight_decay"] is None
        True
    """
