"""AdaGrad with an L1 penalty."""

import keras

from keras_kicks.optimizers.chain import NamedChain
from keras_kicks.optimizers.transforms.adagrad import ScaleByAdaGrad
from keras_kicks.optimizers.transforms.proximal import Proximal


@keras.saving.register_keras_serializable(package="keras_kicks")
class ProximalAdaGrad(NamedChain):
    """AdaGrad with penalties that are solved for exactly in each step, so that weights become zero.

        G <- G + g^2,  r = learning_rate / (sqrt(G) + epsilon)
        x = w - r g
        w <- sign(x) max(|x| - r l1, 0) / (1 + r l2)

    Args:
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        initial_accumulator: What G starts with, >= 0. With 0, a weight without any gradient becomes zero at once.
        l1: Weight of the sum of absolute values, >= 0.
        l2: Weight of half the sum of squares, >= 0.
        epsilon: Against division by zero, > 0.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, as in `Chain`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: a number is none.
        ValueError: expected learning_rate > 0; initial_accumulator >= 0; l1 >= 0; l2 >= 0; epsilon > 0.

    Source:
        Duchi, Hazan and Singer 2011, section 5.1. TensorFlow Addons called it ProximalAdagrad, and l1 and l2
        `l1_regularization_strength` and `l2_regularization_strength`.

    Example:
        >>> w = keras.Variable([0.05, 1.0])
        >>> ProximalAdaGrad(1.0, l1=1.0).apply([keras.ops.zeros((2,))], [w])
        >>> [round(float(x), 3) for x in w.numpy()]
        [0.0, 0.0]
    """

    def __init__(self, learning_rate=0.001, initial_accumulator=0.1, l1=0.0, l2=0.0, epsilon=1e-10, **kwargs):
        super().__init__([ScaleByAdaGrad(initial_accumulator, epsilon), Proximal(l1, l2)], learning_rate, **kwargs)
