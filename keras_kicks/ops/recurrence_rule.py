"""What a recurrent cell does within one step, forward and backward; and what can be put around any such rule.

A rule sees tensors of one step of shape (batch, width), and after the loop those of all steps, (steps, batch, width).
It is hashable: for one rule the loops are compiled once.
"""

import dataclasses

from keras import ops

from keras_kicks.ops.position_sums import sum_steps


class Rule:
    """Base class of the rules.

    Attributes:
        products: Names of the weights whose gradient is a product over all steps and the batch.
    """

    products = frozenset()

    def forward(self, x, states, w, extras):
        """Make one step.

        Args:
            x: The input, multiplied with its kernel.
            states: Tuple of the states before the step.
            w: Dict of the weights and constants.
            extras: What the call gives for this step, such as a mask.

        Returns:
            The states after the step, and a tuple of what the backward step needs besides the states.
        """
        raise NotImplementedError

    def prepare(self, w):
        """Return the weights with what the backward steps use in each step, such as transposed ones."""
        return w

    def backward(self, states, kept, w, extras, dstates):
        """Make the step's gradient.

        Args:
            states: The states before the step.
            kept: What `forward` kept.
            w: Dict of the weights and constants, from `prepare`.
            extras: As in `forward`.
            dstates: Gradients by the states after the step.

        Returns:
            The gradients by x and by the states before the step, and a tuple of what `finish` needs of this step.
        """
        raise NotImplementedError

    def finish(self, states, kept, dx, more, w):
        """Make the gradients of the weights, after the loop.

        Args:
            states: Those before each step, stacked.
            kept: What `forward` kept, stacked.
            dx: The gradients by x, stacked.
            more: What `backward` returned for this, stacked.
            w: Dict of the weights and constants, from `prepare`.

        Returns:
            Dict of gradients by name; for those in `products` a pair of factors (steps, batch, m) and
            (steps, batch, n), or None for a second factor that is dx.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Masked(Rule):
    """Keeps the states in the steps of the sequences whose mask, the last of the extras, is False."""

    rule: Rule

    @property
    def products(self):
        """As the rule it is around."""
        return self.rule.products

    def forward(self, x, states, w, extras):
        """Make the step, and undo it where it is masked."""
        *extras, mask = extras
        after, kept = self.rule.forward(x, states, w, tuple(extras))
        return tuple(ops.where(mask, a, b) for a, b in zip(after, states, strict=True)), kept

    def prepare(self, w):
        """As the rule it is around."""
        return self.rule.prepare(w)

    def backward(self, states, kept, w, extras, dstates):
        """Send the gradient through the step, and past it where it is masked."""
        *extras, mask = extras
        through = tuple(ops.where(mask, d, ops.zeros_like(d)) for d in dstates)
        dx, before, more = self.rule.backward(states, kept, w, tuple(extras), through)
        past = (ops.where(mask, ops.zeros_like(d), d) for d in dstates)
        return dx, tuple(b + p for b, p in zip(before, past, strict=True)), more

    def finish(self, states, kept, dx, more, w):
        """As the rule it is around."""
        return self.rule.finish(states, kept, dx, more, w)


@dataclasses.dataclass(frozen=True)
class Zoneout(Rule):
    """Keeps a share of each state: the last extras, one for each state, are what is kept, in [0, 1].

    Source:
        Krueger et al. 2017, arXiv:1606.01305.
    """

    rule: Rule
    states: int

    @property
    def products(self):
        """As the rule it is around."""
        return self.rule.products

    def forward(self, x, states, w, extras):
        """Make the step, and take back a share of it."""
        extras, shares = extras[: -self.states], extras[-self.states :]
        after, kept = self.rule.forward(x, states, w, extras)
        return tuple(a + k * (b - a) for a, b, k in zip(after, states, shares, strict=True)), kept

    def prepare(self, w):
        """As the rule it is around."""
        return self.rule.prepare(w)

    def backward(self, states, kept, w, extras, dstates):
        """Send a share of the gradient past the step."""
        extras, shares = extras[: -self.states], extras[-self.states :]
        past = [k * d for k, d in zip(shares, dstates, strict=True)]
        through = tuple(d - p for d, p in zip(dstates, past, strict=True))
        dx, before, more = self.rule.backward(states, kept, w, extras, through)
        return dx, tuple(b + p for b, p in zip(before, past, strict=True)), more

    def finish(self, states, kept, dx, more, w):
        """As the rule it is around."""
        return self.rule.finish(states, kept, dx, more, w)


@dataclasses.dataclass(frozen=True)
class Leaky(Rule):
    """Mixes the first state with the last step's: alpha times the old, 1 - alpha times the new one."""

    rule: Rule

    @property
    def products(self):
        """As the rule it is around."""
        return self.rule.products

    def forward(self, x, states, w, extras):
        """Make the step and mix."""
        (new, *others), kept = self.rule.forward(x, states, w, extras)
        return (new + w["alpha"] * (states[0] - new), *others), (new, *kept)

    def prepare(self, w):
        """As the rule it is around."""
        return self.rule.prepare(w)

    def backward(self, states, kept, w, extras, dstates):
        """Send alpha times the gradient past the step."""
        first, *others = dstates
        past = w["alpha"] * first
        dx, (before, *rest), more = self.rule.backward(states, kept[1:], w, extras, (first - past, *others))
        return dx, (before + past, *rest), (first, *more)

    def finish(self, states, kept, dx, more, w):
        """Add the gradient by alpha."""
        gradients = self.rule.finish(states, kept[1:], dx, more[1:], w)
        return {**gradients, "alpha": sum_steps(lambda d, old, new: d * (old - new), more[0], states[0], kept[0])}
