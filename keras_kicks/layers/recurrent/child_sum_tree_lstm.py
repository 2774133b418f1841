"""Long short-term memory over trees whose children have no order."""

import keras
from keras import ops

from keras_kicks.layers.recurrent.tree_layer import TreeLSTM
from keras_kicks.ops.tree_rules import ChildSumTreeLSTMRule


@keras.saving.register_keras_serializable(package="keras_kicks")
class ChildSumTreeLSTM(TreeLSTM):
    """The Child-Sum Tree-LSTM: for any number of children, whose order does not matter.

    With the sum over the children h~ = sum over k of h_jk,

        i_j  = sigmoid(W_i x_j + U_i h~ + b_i)                  input gate
        f_jk = sigmoid(W_f x_j + U_f h_jk + b_f)                forget gate of child k
        g_j  = tanh(W_g x_j + U_g h~ + b_g)                     what may be stored
        o_j  = sigmoid(W_o x_j + U_o h~ + b_o)                  output gate
        c_j  = i_j * g_j + sum over k of f_jk * c_jk
        h_j  = o_j * tanh(c_j)

    The columns of `kernel`, `recurrent_kernel` and `bias` are in the order i, f, g, o: the weights are those of
    `keras.layers.LSTM`, which a chain of nodes is.

    Args:
        units: Width of a state, >= 1.
        activation: Of g and of the cell state.
        recurrent_activation: Of the gates.
        forget_bias: What the bias of the forget gates starts with.
        **kwargs: The arguments of `keras_kicks.layers.TreeRNN` from `use_bias` on.

    Call arguments:
        inputs: Features of the nodes, shape (batch, nodes, features), floating.
        topology: Integers, shape (batch, nodes, 1 + children), as in `TreeRNN`, with room for as many children as any
            node has.
        inputs_mask: Boolean, shape (batch, nodes), or None; by default the mask of `inputs`.
        training: Whether to drop.

    Returns:
        As `TreeRNN`; with `return_state` a list of the output and the root's h and c.

    Raises:
        TypeError: `units` is no integer, `forget_bias` no number; the topology is not of integers.
        ValueError: expected units >= 1; rates in [0, 1); inputs and a topology of the shapes above.

    Masking:
        As `TreeRNN`.

    Source:
        Tai, Socher and Manning 2015, arXiv:1503.00075, equations 2 to 8.

    Example:
        >>> from keras_kicks.datasets import tree_tensors
        >>> x, topology = tree_tensors([[1.0, [2.0, 3.0, 4.0]], [5.0, 6.0]])
        >>> tuple(ChildSumTreeLSTM(4)(x[..., None], topology).shape)
        (2, 4)
    """

    def rule(self):
        """Return what is computed at a node."""
        return ChildSumTreeLSTMRule(self.units, self.activation, self.recurrent_activation)

    def weight_shapes(self, features):
        """Return the shapes of kernel, recurrent kernel and bias."""
        return (features, 4 * self.units), (self.units, 4 * self.units), (4 * self.units,)

    def weights_by_name(self):
        """Return the tensors that the rule uses: the block of the forget gates by itself."""
        weights = super().weights_by_name()
        i, f, g, o = ops.split(weights["recurrent_kernel"], 4, axis=-1)
        return {**weights, "recurrent_kernel": ops.concatenate([i, g, o], axis=-1), "sent_kernel": f}
