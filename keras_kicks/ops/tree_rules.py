"""What a recursive network computes at a node, from its features and its children, but for the products.

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

    @property
    def sends(self):
        """Whether a row ends with the product of the first state and the `sent_kernel`."""
        return False

    def told(self, rows, noise=None):
        """Return what is multiplied with the `recurrent_kernel`, which has to be linear in the rows.

        Args:
            rows: Rows of the children, shape (count, arity, width), zeros for missing ones.
            noise: What the children's states are multiplied with, shape (count, units), or None.
        """
        return self.beside(dropped(rows, noise))

    def combine(self, z, r=None, rows=None):
        """Return the states of nodes, shape (count, shown).

        Args:
            z: What the features were multiplied to, with the bias.
            r: What `told` was multiplied to; None for leaves.
            rows: Rows of the children; None for leaves.
        """
        return self.activation(z if r is None else z + r)

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
        return ops.split(z, z.shape[-1] // self.units, axis=-1)

    def states(self, i, g, o, kept=None):
        """Return h and c from the inputs of the gates and the sum of what is kept of the children's c."""
        c = self.recurrent_activation(i) * self.activation(g)
        if kept is not None:
            c = c + kept
        return self.recurrent_activation(o) * self.activation(c), c


class NaryTreeLSTMRule(TreeLSTMRule):
    """The step of `keras_kicks.layers.NaryTreeLSTM`."""

    def told(self, rows, noise=None):
        """Return the children's h side by side: each has matrices of its own for every gate."""
        return self.beside(dropped(self.blocks(rows)[0], noise))

    def combine(self, z, r=None, rows=None):
        """Return h and c."""
        i, f, g, o = self.blocks(z)
        if r is None:
            return ops.concatenate(self.states(i, g, o), axis=-1)
        ri, *rf, rg, ro = self.blocks(r)
        c = self.blocks(rows)[1]
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

    @property
    def sends(self):
        """Whether a row ends with a product."""
        return True

    def told(self, rows, noise=None):
        """Return the sum of the children's h, which makes all gates but the forget gates."""
        return ops.sum(dropped(self.blocks(rows)[0], noise), axis=1)

    def combine(self, z, r=None, rows=None):
        """Return h and c; each child has a forget gate of its own."""
        i, f, g, o = self.blocks(z)
        if r is None:
            return ops.concatenate(self.states(i, g, o), axis=-1)
        ri, rg, ro = self.blocks(r)
        _, c, rf = self.blocks(rows)
        kept = ops.sum(self.recurrent_activation(ops.expand_dims(f, 1) + rf) * c, axis=1)
        return ops.concatenate(self.states(i + ri, g + rg, o + ro, kept), axis=-1)
