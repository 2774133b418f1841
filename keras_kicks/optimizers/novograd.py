"""NovoGrad."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.novograd import ScaleByNovoGrad


@keras.saving.register_keras_serializable(package="keras_kicks")
class NovoGrad(NamedChain):
    """Momentum of gradients that are normalized layer by layer.

        v <- beta_2 v + (1 - beta_2) |g|^2
        m <- beta_1 m + (g / (sqrt(v) + epsilon) + d w)
        w <- w - learning_rate m

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        inner_weight_decay: d, >= 0: the paper's weight decay. `weight_decay`, of Keras, is outside of m.
        grad_averaging: Whether what is added to m is multiplied with 1 - beta_1.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; rates in [0, 1); epsilon > 0; inner_weight_decay >= 0.

    Source:
        Ginsburg et al. 2019, arXiv:1905.11286; see `ScaleByNovoGrad`.

    Example:
        >>> NovoGrad().get_config()["beta_1"]
        0.95
    """

    def __init__(
        self,
        learning_rate=0.01,
        beta_1=0.95,
        beta_2=0.98,
        epsilon=1e-8,
        inner_weight_decay=0.0,
        grad_averaging=False,
        **kwargs,
    ):
        super().__init__(
            [ScaleByNovoGrad(beta_1, beta_2, epsilon, inner_weight_decay, grad_averaging)], learning_rate, **kwargs
        )
