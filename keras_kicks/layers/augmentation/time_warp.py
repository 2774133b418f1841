"""Sequences that run faster here and slower there."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.layers.augmentation.augmentation import Augmentation, wide
from keras_kicks.ops.padding import broadcast_mask, steps_that_count, take_steps
from keras_kicks.ops.random import draw_normal


@keras.saving.register_keras_serializable(package="keras_kicks")
class TimeWarp(Augmentation):
    """Lets the time of each sequence run faster here and slower there, in training; its ends and length stay.

        training:   y_t = x(s_t), linear between steps,   s_t = (n - 1) c_t / c_{n-1},
                    c_t - c_{t-1} = (v_{t-1} + v_t) / 2,  c_0 = 0
                    v: speed, linear between `knots` points at equal distances, in each exp(deviation N(0, 1))
        inference:  y = x

    where n is the number of steps that count of this sample. All features of a sample run together.

    Args:
        deviation: Standard deviation of the logarithm of the speed, >= 0.
        knots: Number of points, from the first step to the last, with a speed of their own, >= 2.
        seed: None or an integer. Replicas of a tf.distribute strategy draw different speeds from the same seed.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, steps, ..., features), floating.
        mask: Bool of shape (batch, steps), or None.
        training: Whether to warp.

    Returns:
        The shape of `inputs`, in the compute dtype. Times are computed in float32.

    Raises:
        TypeError: `deviation` is no number, `knots` or `seed` no integer; expected floating inputs.
        ValueError: expected deviation >= 0; knots >= 2; inputs of shape (batch, steps, features).

    Masking:
        The mask is passed on. What it leaves out stays, and the steps that count are taken as if they followed each
        other.

    Source:
        Um et al. 2017, arXiv:1706.00527, "time-warping". Departure: speeds are log-normal, so that no time runs
        backwards, and linear between the knots, where the paper has N(1, deviation^2) and cubic splines.

    Example:
        >>> import numpy as np
        >>> x = np.arange(5.0, dtype="float32").reshape(1, 5, 1)
        >>> y = keras.ops.convert_to_numpy(TimeWarp(0.5, seed=0)(x, training=True)).ravel()
        >>> float(y[0]), float(y[-1]), bool((np.diff(y) > 0).all())
        (0.0, 4.0, True)
    """

    least_rank = 3

    def __init__(self, deviation=0.2, knots=4, seed=None, **kwargs):
        owner = type(self).__name__
        expect_number(owner, deviation=deviation)
        expect(deviation >= 0, owner, "deviation >= 0", deviation=deviation)
        expect_integer(owner, knots=knots)
        expect(knots >= 2, owner, "knots >= 2", knots=knots)
        super().__init__(seed, **kwargs)
        self.deviation = float(deviation)
        self.knots = int(knots)

    def changed(self, inputs, mask):
        """Warp each sequence."""
        counts, ranks, order = steps_that_count(inputs, mask)
        # The steps that count first, without gaps, so that what follows knows no mask.
        x = take_steps(wide(inputs), order)
        last = ops.maximum(counts - 1, 0)[:, None]
        times = self._times(ops.shape(inputs)[0], ops.shape(inputs)[1], ops.cast(last, "float32"))
        before = ops.minimum(ops.cast(ops.floor(times), "int32"), last)
        after = ops.minimum(before + 1, last)
        part = broadcast_mask(ops.cast(times - ops.cast(before, "float32"), x.dtype), x)
        y = (1 - part) * take_steps(x, before) + part * take_steps(x, after)
        return y if mask is None else take_steps(y, ops.maximum(ranks, 0))

    def _times(self, batch, steps, last):
        """Return when each step is taken from, of shape (batch, steps), with `last` of shape (batch, 1)."""
        speeds = ops.exp(self.deviation * draw_normal((batch, self.knots), self.seed_generator, per_replica=True))
        step = ops.arange(steps, dtype="float32")[None]
        place = ops.minimum(step / ops.maximum(last, 1.0), 1.0) * (self.knots - 1)
        # The weight of each knot at each step: hats, which add up to 1.
        hats = ops.relu(1.0 - ops.abs(place[..., None] - ops.arange(self.knots, dtype="float32")))
        speed = ops.sum(hats * speeds[:, None], axis=-1)
        between = ops.where(step[:, 1:] <= last, (speed[:, :-1] + speed[:, 1:]) / 2, 0.0)
        passed = ops.pad(ops.cumsum(between, axis=1), ((0, 0), (1, 0)))
        # Behind the last step nothing passes, so that the largest is that of the last one.
        whole = ops.max(passed, axis=1, keepdims=True)
        return ops.clip(passed / ops.where(whole > 0, whole, 1.0) * last, 0.0, last)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "deviation": self.deviation, "knots": self.knots}
