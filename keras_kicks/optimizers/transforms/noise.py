"""Gradient noise."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.ops.numbered_noise import numbered_normal
from keras_kicks.optimizers.transforms.transform import Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class GradientNoise(Transform):
    """Adds normal noise to the gradients that fades with the steps.

        u = g + sigma_t n,  sigma_t^2 = eta / (1 + t)^gamma,  n standard normal, t = 0 in the first step

    The noise is a function of the seed, the step and the variable: all replicas add the same, and training that is
    interrupted goes on with the same.

    Args:
        eta: Variance in the first step, >= 0.
        gamma: How fast it fades, >= 0.
        seed: Integer.

    Returns:
        A transform for `Chain`, which remembers nothing.

    Raises:
        TypeError: a number is none, `seed` no integer.
        ValueError: expected eta >= 0; gamma >= 0.

    Source:
        Neelakantan, Vilnis, Le, Sutskever, Kaiser, Kurach and Martens 2015, arXiv:1511.06807, equation 1.

    Example:
        >>> GradientNoise(0.01).get_config()
        {'eta': 0.01, 'gamma': 0.55, 'seed': 0}
    """

    elementwise = False
    # XLA draws other normal numbers from the same bits.
    compiles = False

    def __init__(self, eta, gamma=0.55, seed=0):
        owner = type(self).__name__
        expect_number(owner, eta=eta, gamma=gamma)
        expect(eta >= 0, owner, "eta >= 0", eta=eta)
        expect(gamma >= 0, owner, "gamma >= 0", gamma=gamma)
        expect_integer(owner, seed=seed)
        self.eta, self.gamma, self.seed = float(eta), float(gamma), int(seed)

    def update(self, gradients, state, now):
        """Add the noise."""
        sigma = ops.sqrt(self.eta / ops.power(now.number, self.gamma))
        noisy = []
        for g, place in zip(gradients, now.places, strict=True):
            noise = numbered_normal(g.shape, self.seed, place, ops.cast(now.number, "int32"))
            noisy.append(g + ops.cast(sigma * noise, g.dtype))
        return noisy, state

    def get_config(self):
        """Return the constructor arguments."""
        return {"eta": self.eta, "gamma": self.gamma, "seed": self.seed}
