"""What a recursive network computes at a node, from its features and its children.

A rule is hashable: for one rule the loops of `keras_kicks.ops.tree_levels` are compiled once.
"""

import dataclasses
from collections.abc import Callable

from keras import ops


@dataclasses.dataclass(frozen=True)
class TreeRule:
    """The recursive network of `keras_kicks.layers.TreeRNN`, and base class of the other rules.

    What a node gives its parent is a row of `width` numbers, whose first `shown` are its states.

    Attributes:
        units: Width of a state.
        activation: Elementwise function.
    """

    units: int
    activation: Callable

    @property
    def shown(self):
        """Numbers of all states."""
        return self.units

    @property
    def width(self):
        """Numbers of a row."""
        return self.shown

    def step(self, x, rows, w, noise=None):
        """Compute nodes.

        Args:
            x: Features, shape (count, features).
            rows: Rows of the children, shape (count, arity, width), zeros for missing ones; None for leaves.
            w: Dict of "kernel", "recurrent_kernel" and perhaps "bias".
            noise: What the children's states are multiplied with, shape (count, units), or None.

        Returns:
            The rows of the nodes, shape (count, width).
        """
        z = self.project(x, w)
        if rows is not None:
            z = z + ops.matmul(self.beside(dropped(rows, noise)), w["recurrent_kernel"])
        return self.activation(z)

    def project(self, x, w):
        """Return the part of the features."""
        z = ops.matmul(x, w["kernel"])
        return z + w["bias"] if "bias" in w else z

    def beside(self, states):
        """Return the states of all children of a node side by side."""
        return ops.reshape(states, (-1, states.shape[1] * states.shape[2]))


def dropped(states, noise):
    """Multiply the states of the children of each node by its noise."""
    return states if noise is None else states * ops.expand_dims(noise, 1)


@dataclasses.dataclass(frozen=True)
class TreeLSTMRule(TreeRule):
    """What both Tree-LSTMs share; a row begins with h and c.

    Attributes:
        recurrent_activation: Elementwise function, of the gates.
    """

    recurrent_activation: Callable

    @property
    def shown(self):
        """The numbers of h and c."""
        return 2 * self.units

    def blocks(self, z):
        """Cut the last axis into blocks of `units`."""
        return [z[..., k : k + self.units] for k in range(0, z.shape[-1], self.units)]

    def states(self, i, g, o, kept=None):
        """Return h and c from the inputs of the gates and the sum of what is kept of the children's c."""
        c = self.recurrent_activation(i) * self.activation(g)
        if kept is not None:
            c = c + kept
        return self.recurrent_activation(o) * self.activation(c), c


class NaryTreeLSTMRule(TreeLSTMRule):
    """The step of `keras_kicks.layers.NaryTreeLSTM`."""

    def step(self, x, rows, w, noise=None):
        """Compute nodes: each child has matrices of its own for every gate."""
        i, f, g, o = self.blocks(self.project(x, w))
        if rows is None:
            return ops.concatenate(self.states(i, g, o), axis=-1)
        h, c = self.blocks(rows)
        ri, *rf, rg, ro = self.blocks(ops.matmul(self.beside(dropped(h, noise)), w["recurrent_kernel"]))
        kept = sum(self.recurrent_activation(f + r) * c[:, k] for k, r in enumerate(rf))
        return ops.concatenate(self.states(i + ri, g + rg, o + ro, kept), axis=-1)


class ChildSumTreeLSTMRule(TreeLSTMRule):
    """The step of `keras_kicks.layers.ChildSumTreeLSTM`, whose recurrent kernel comes in two parts.

    A row ends with what the child says to its forget gate, which is computed once for each child, however many places
    for children there are.
    """

    @property
    def width(self):
        """The numbers of h, c and the forget gate."""
        return 3 * self.units

    def step(self, x, rows, w, noise=None):
        """Compute nodes: the sum of the children's h makes all gates but the forget gates, of which each has one."""
        i, f, g, o = self.blocks(self.project(x, w))
        if rows is None:
            h, c = self.states(i, g, o)
        else:
            h, c, rf = self.blocks(rows)
            ri, rg, ro = self.blocks(ops.matmul(ops.sum(dropped(h, noise), axis=1), w["recurrent_kernel"]))
            kept = ops.sum(self.recurrent_activation(ops.expand_dims(f, 1) + rf) * c, axis=1)
            h, c = self.states(i + ri, g + rg, o + ro, kept)
        sent = ops.matmul(h if noise is None else h * noise, w["forget_kernel"])
        return ops.concatenate([h, c, sent], axis=-1)
