"""Rectified Adam."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.adam import ScaleByRectifiedAdam


@keras.saving.register_keras_serializable(package="keras_kicks")
class RectifiedAdam(NamedChain):
    """Adam that warms up by itself (RAdam).

        w <- w - learning_rate r m' / (sqrt(v') + epsilon)  where rho_t > threshold, else w - learning_rate m'

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        threshold: At least 4. The paper has 4; TensorFlow Addons and torch have 5.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; rates in [0, 1); epsilon > 0; threshold >= 4; beta_2 > 0.6.

    Source:
        Liu, Jiang, He, Chen, Liu, Gao and Han 2020, arXiv:1908.03265; see `ScaleByRectifiedAdam`. TensorFlow Addons
        called the threshold `sma_threshold`.

    Example:
        >>> RectifiedAdam().get_config()["threshold"]
        4.0
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, threshold=4.0, **kwargs):
        super().__init__([ScaleByRectifiedAdam(beta_1, beta_2, epsilon, threshold)], learning_rate, **kwargs)
