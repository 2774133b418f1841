"""RMSProp."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.rmsprop import ScaleByRMSProp


@keras.saving.register_keras_serializable(package="keras_kicks")
class RMSProp(NamedChain):
    """AdaGrad that forgets.

        v <- rho v + (1 - rho) g^2
        w <- w - learning_rate g / (sqrt(v) + epsilon)

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        rho: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        centered: Whether to divide by the standard deviation.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; 0 <= rho < 1; epsilon > 0.

    Source:
        Tieleman and Hinton 2012, lecture 6.5.

    Example:
        >>> RMSProp(0.01).get_config()["rho"]
        0.9
    """

    def __init__(self, learning_rate=0.001, rho=0.9, epsilon=1e-8, centered=False, **kwargs):
        super().__init__([ScaleByRMSProp(rho, epsilon, centered)], learning_rate, **kwargs)
