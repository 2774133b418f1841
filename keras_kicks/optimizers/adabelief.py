"""AdaBelief."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.adam import ScaleByAdaBelief


@keras.saving.register_keras_serializable(package="keras_kicks")
class AdaBelief(NamedChain):
    """Adam that takes long steps where gradients are as expected.

        s <- beta_2 s + (1 - beta_2) (g - m)^2 + epsilon
        w <- w - learning_rate m' / (sqrt(s') + epsilon)

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of s that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; rates in [0, 1); epsilon > 0.

    Source:
        Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris and Duncan 2020, arXiv:2010.07468; see
        `ScaleByAdaBelief`.

    Example:
        >>> AdaBelief(0.01).get_config()["epsilon"]
        1e-16
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-16, **kwargs):
        super().__init__([ScaleByAdaBelief(beta_1, beta_2, epsilon)], learning_rate, **kwargs)
