"""The recursive network: a node's vector from its children's."""

import keras

from keras_kicks._errors import expect, expect_integer
from keras_kicks.layers.recurrent.tree_layer import TreeLayer
from keras_kicks.ops.tree_rules import TreeRule


@keras.saving.register_keras_serializable(package="keras_kicks")
class TreeRNN(TreeLayer):
    """A recursive network: the vector of each node from its features and its children's vectors.

    With child k of node j in place k,

        h_j = activation(W x_j + sum over k < arity of U_k h_jk + b)

    where a missing child adds nothing. All nodes of one height in the batch are computed together.

    Args:
        units: Width of a state, >= 1.
        arity: Places for children of a node, >= 1.
        activation: Elementwise function.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of `kernel`, shape (features, units).
        recurrent_initializer: Initializer of `recurrent_kernel`, shape (arity * units, units): U_1, U_2 and so on.
        bias_initializer: Initializer of `bias`, shape (units,).
        kernel_regularizer: Regularizer of `kernel`.
        recurrent_regularizer: Regularizer of `recurrent_kernel`.
        bias_regularizer: Regularizer of `bias`.
        activity_regularizer: Regularizer of the output.
        kernel_constraint: Constraint of `kernel`.
        recurrent_constraint: Constraint of `recurrent_kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Share of the features to drop, in [0, 1); one mask for all nodes of a tree.
        recurrent_dropout: Share of a state to drop on its way to the parent, likewise.
        seed: None or an integer.
        return_sequences: Whether to return the states of all nodes, in their order, and not those of the roots.
        return_state: Whether to return the root's state too.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Features of the nodes, shape (batch, nodes, features), floating.
        topology: Integers, shape (batch, nodes, 1 + arity), from `keras_kicks.datasets.tree_topology` or
            `tree_tensors`: of each node its height, 0 for a leaf and -1 for padding, and the indices of its children,
            -1 where there is none. The values are checked where they are made, not here.
        inputs_mask: Boolean, shape (batch, nodes), or None; by default the mask of `inputs`.
        training: Whether to drop.

    Returns:
        Shape (batch, units), or (batch, nodes, units) with `return_sequences`, with zeros for padding; with
        `return_state` a list of that and the root's state. A tree without nodes has the state zero.

    Raises:
        TypeError: `units` or `arity` is no integer; the topology is not of integers.
        ValueError: expected units >= 1; arity >= 1; rates in [0, 1); inputs and a topology of the shapes above.

    Masking:
        Nothing is computed by it: which nodes there are is in the topology. With `return_sequences` the output's mask
        is True for the nodes that are there and, if there is a mask, in it.

    Source:
        Goller and Küchler 1996, "Learning task-dependent distributed representations by backpropagation through
        structure"; Socher, Lin, Ng and Manning 2011. Departure: inner nodes may have features too.

    Example:
        >>> from keras_kicks.datasets import tree_tensors
        >>> x, topology = tree_tensors([[1.0, [2.0, 3.0]], [4.0, 5.0]])
        >>> x.shape, topology.shape
        ((2, 5), (2, 5, 3))
        >>> tuple(TreeRNN(4, arity=2)(x[..., None], topology).shape)
        (2, 4)
    """

    def __init__(self, units, arity, activation="tanh", **kwargs):
        owner = type(self).__name__
        expect_integer(owner, arity=arity)
        expect(arity >= 1, owner, "arity >= 1", arity=arity)
        super().__init__(units, activation=activation, **kwargs)
        self.arity = int(arity)

    def rule(self):
        """Return what is computed at a node."""
        return TreeRule(self.units, self.activation)

    def weight_shapes(self, features):
        """Return the shapes of kernel, recurrent kernel and bias."""
        return (features, self.units), (self.arity * self.units, self.units), (self.units,)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "arity": self.arity}
