"""Adam."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.adam import ScaleByAdam


@keras.saving.register_keras_serializable(package="keras_kicks")
class Adam(NamedChain):
    """Momentum and a step size for each weight.

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g^2
        m' = m / (1 - beta_1^t),  v' = v / (1 - beta_2^t)
        w <- w - learning_rate m' / (sqrt(v') + epsilon)

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        bias_correction: Whether to correct for m and v starting with zero.
        epsilon_hat: Whether to add epsilon to sqrt(v), as `keras.optimizers.Adam` does, and not to sqrt(v').
        amsgrad: Whether v' is the greatest so far.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; rates in [0, 1); epsilon > 0.

    Source:
        Kingma and Ba 2015, arXiv:1412.6980; see `ScaleByAdam`.

    Example:
        >>> Adam(bias_correction=False).get_config()["bias_correction"]
        False
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        bias_correction=True,
        epsilon_hat=False,
        amsgrad=False,
        **kwargs,
    ):
        super().__init__(
            [ScaleByAdam(beta_1, beta_2, epsilon, bias_correction, epsilon_hat, amsgrad)], learning_rate, **kwargs
        )
