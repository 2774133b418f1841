"""Long short-term memory over trees whose children have places."""

import keras

from keras_kicks._errors import expect, expect_integer
from keras_kicks.layers.recurrent.tree_layer import TreeLSTM
from keras_kicks.ops.tree_rules import NaryTreeLSTMRule


@keras.saving.register_keras_serializable(package="keras_kicks")
class NaryTreeLSTM(TreeLSTM):
    """The N-ary Tree-LSTM: every place for a child has its own matrices.

    With child l of node j in place l,

        i_j  = sigmoid(W_i x_j + sum over l of U_i,l h_jl + b_i)             input gate
        f_jk = sigmoid(W_f x_j + sum over l of U_f,k,l h_jl + b_f)           forget gate of child k
        g_j  = tanh(W_g x_j + sum over l of U_g,l h_jl + b_g)                what may be stored
        o_j  = sigmoid(W_o x_j + sum over l of U_o,l h_jl + b_o)             output gate
        c_j  = i_j * g_j + sum over k of f_jk * c_jk
        h_j  = o_j * tanh(c_j)

    where a missing child adds nothing. The columns of `kernel` and `bias` are in the order i, f, g, o; those of
    `recurrent_kernel`, of shape (arity * units, (3 + arity) * units), in the order i, f_1 ... f_arity, g, o. With one
    place these are the weights of `keras.layers.LSTM`, which a chain of nodes is.

    Args:
        units: Width of a state, >= 1.
        arity: N, places for children of a node, >= 1.
        activation: Of g and of the cell state.
        recurrent_activation: Of the gates.
        forget_bias: What the bias of the forget gates starts with.
        **kwargs: The arguments of `keras_kicks.layers.TreeRNN` from `use_bias` on.

    Call arguments:
        inputs: Features of the nodes, shape (batch, nodes, features), floating.
        topology: Integers, shape (batch, nodes, 1 + arity), as in `TreeRNN`.
        inputs_mask: Boolean, shape (batch, nodes), or None; by default the mask of `inputs`.
        training: Whether to drop.

    Returns:
        As `TreeRNN`; with `return_state` a list of the output and the root's h and c.

    Raises:
        TypeError: `units` or `arity` is no integer, `forget_bias` no number; the topology is not of integers.
        ValueError: expected units >= 1; arity >= 1; rates in [0, 1); inputs and a topology of the shapes above.

    Masking:
        As `TreeRNN`.

    Source:
        Tai, Socher and Manning 2015, arXiv:1503.00075, equations 9 to 14.

    Example:
        >>> from keras_kicks.datasets import tree_tensors
        >>> x, topology = tree_tensors([[1.0, [2.0, 3.0]], [4.0, 5.0]])
        >>> tuple(NaryTreeLSTM(4, arity=2, return_sequences=True)(x[..., None], topology).shape)
        (2, 5, 4)
    """

    def __init__(self, units, arity, activation="tanh", recurrent_activation="sigmoid", forget_bias=1.0, **kwargs):
        owner = type(self).__name__
        expect_integer(owner, arity=arity)
        expect(arity >= 1, owner, "arity >= 1", arity=arity)
        super().__init__(units, activation, recurrent_activation, forget_bias, **kwargs)
        self.arity = int(arity)

    def rule(self):
        """Return what is computed at a node."""
        return NaryTreeLSTMRule(self.units, self.activation, self.recurrent_activation)

    def weight_shapes(self, features):
        """Return the shapes of kernel, recurrent kernel and bias."""
        u, n = self.units, self.arity
        return (features, 4 * u), (n * u, (3 + n) * u), (4 * u,)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "arity": self.arity}
