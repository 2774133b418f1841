"""Momentum, and Nesterov's."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.momentum import ScaleByMomentum


@keras.saving.register_keras_serializable(package="keras_kicks")
class Momentum(NamedChain):
    """Descent with inertia: the heavy ball.

        v <- momentum v + g
        w <- w - learning_rate v

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        momentum: Share of the velocity that is kept, in [0, 1).
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; 0 <= momentum < 1.

    Source:
        Polyak 1964. Departure: a learning rate that changes acts on the whole velocity, as in torch, not on the new
        part only.

    Example:
        >>> Momentum(0.1).get_config()["momentum"]
        0.9
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, **kwargs):
        super().__init__([ScaleByMomentum(momentum)], learning_rate, **kwargs)


@keras.saving.register_keras_serializable(package="keras_kicks")
class Nesterov(NamedChain):
    """Momentum whose gradient is that of where the inertia leads.

        v <- momentum v + g
        w <- w - learning_rate (g + momentum v)

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        momentum: Share of the velocity that is kept, in [0, 1).
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; 0 <= momentum < 1.

    Source:
        Nesterov 1983, in the form of Sutskever, Martens, Dahl and Hinton 2013, for the variable that is ahead.

    Example:
        >>> Nesterov(0.1).get_config()["momentum"]
        0.9
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, **kwargs):
        super().__init__([ScaleByMomentum(momentum, nesterov=True)], learning_rate, **kwargs)
