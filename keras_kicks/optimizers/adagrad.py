"""AdaGrad."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.adagrad import ScaleByAdaGrad


@keras.saving.register_keras_serializable(package="keras_kicks")
class AdaGrad(NamedChain):
    """Steps that shrink with the squares of all gradients so far.

        G <- G + g^2
        w <- w - learning_rate g / (sqrt(G) + epsilon)

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        initial_accumulator: What G starts with, >= 0.
        epsilon: Against division by zero, > 0.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; initial_accumulator >= 0; epsilon > 0.

    Source:
        Duchi, Hazan and Singer 2011. `keras.optimizers.Adagrad` starts G with 0.1, the paper with 0.

    Example:
        >>> AdaGrad(0.1).get_config()["initial_accumulator"]
        0.0
    """

    def __init__(self, learning_rate=0.01, initial_accumulator=0.0, epsilon=1e-10, **kwargs):
        super().__init__([ScaleByAdaGrad(initial_accumulator, epsilon)], learning_rate, **kwargs)
