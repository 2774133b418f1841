"""Zoneout of a cell's states, a step at a time and for whole sequences."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_rate
from keras_kicks.ops.random import LEVELS, draw_levels
from keras_kicks.ops.recurrence_rule import Zoneout


def zoneout_rates(owner, zoneout, names):
    """Return the rate of each state from one number for all of them or a sequence of numbers."""
    if not isinstance(zoneout, (list, tuple)):
        zoneout = [zoneout] * len(names)
    rule = f"zoneout to be one number or one for each of {', '.join(names)}"
    expect(len(zoneout) == len(names), owner, rule, zoneout=zoneout)
    for rate in zoneout:
        expect_rate(owner, zoneout=rate)
    return [float(rate) for rate in zoneout]


def zoned_states(cell, after, before, training):
    """Keep a share of the states of the last step: random elements in training, their expectation in inference."""
    if not any(cell.zoneout):
        return after
    if training and cell.in_sequence and keras.backend.backend() == "jax":
        # JAX's loop would take the state of the generator out of itself.
        expect(
            False,
            type(cell).__name__,
            "zoneout to be drawn before the loop on JAX",
            "Use keras_kicks.layers.RNN, without unroll and with the default activations.",
            layer="keras.layers.RNN",
        )
    shares = [_share(cell, rate, ops.shape(a), a.dtype, training) for rate, a in zip(cell.zoneout, after, strict=True)]
    return [a + k * (b - a) for a, b, k in zip(after, before, shares, strict=True)]


def zoned_rule(cell, rule, sequences, widths, training):
    """Return the rule for whole sequences, and the shares that it takes in each step."""
    if not any(cell.zoneout):
        return rule, ()
    batch, steps = ops.shape(sequences)[:2]
    shares = []
    for rate, width in zip(cell.zoneout, widths, strict=True):
        shape = (steps, batch, width) if training else (steps, 1, 1)
        shares.append(_share(cell, rate, shape, cell.compute_dtype, training))
    return Zoneout(rule, len(shares)), tuple(shares)


def _share(cell, rate, shape, dtype, training):
    levels = round(rate * LEVELS)
    if not training or levels == 0:
        return ops.full(shape, levels / LEVELS, dtype=dtype)
    return ops.cast(draw_levels(shape, cell.seed_generator, per_replica=True) < levels, dtype)
