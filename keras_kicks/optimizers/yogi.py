"""Yogi."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.adam import ScaleByYogi


@keras.saving.register_keras_serializable(package="keras_kicks")
class Yogi(NamedChain):
    """Adam whose step sizes grow slowly.

        v <- v - (1 - beta_2) sign(v - g^2) g^2
        w <- w - learning_rate m / (sqrt(v) + epsilon), with `bias_correction` as in Adam

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: As in the equation, in [0, 1).
        epsilon: Against division by zero, > 0.
        initial_accumulator: What v starts with, >= 0.
        bias_correction: Whether to correct as Adam does, as TensorFlow Addons did. The paper does not.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; rates in [0, 1); epsilon > 0; initial_accumulator >= 0.

    Source:
        Zaheer, Reddi, Sachan, Kale and Kumar 2018, "Adaptive methods for nonconvex optimization"; see `ScaleByYogi`.

    Example:
        >>> Yogi().get_config()["initial_accumulator"]
        1e-06
    """

    def __init__(
        self,
        learning_rate=0.01,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-3,
        initial_accumulator=1e-6,
        bias_correction=True,
        **kwargs,
    ):
        super().__init__(
            [ScaleByYogi(beta_1, beta_2, epsilon, initial_accumulator, bias_correction)], learning_rate, **kwargs
        )
