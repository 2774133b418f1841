"""What the recursive layers share: their arguments, their weights and how they run over trees."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number, expect_rate
from keras_kicks.layers.recurrent.sequence_plan import cast_weights
from keras_kicks.ops.dropconnect import draw_mask
from keras_kicks.ops.keras_mask import set_mask
from keras_kicks.ops.tree_levels import tree_states


class TreeLayer(keras.layers.Layer):
    """Base class; a subclass has a `rule` and the shapes of the weights. For the arguments see `TreeRNN`."""

    # How many states a node has.
    states = 1

    def __init__(
        self,
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        **kwargs,
    ):
        owner = type(self).__name__
        expect_integer(owner, units=units)
        expect(units >= 1, owner, "units >= 1", units=units)
        expect_rate(owner, dropout=dropout, recurrent_dropout=recurrent_dropout)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = int(units)
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = float(dropout)
        self.recurrent_dropout = float(recurrent_dropout)
        self.seed = seed
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.supports_masking = True
        self.seed_generator = None
        if self.dropout or self.recurrent_dropout:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def rule(self):
        """Return what is computed at a node."""
        raise NotImplementedError

    def weight_shapes(self, features):
        """Return the shapes of kernel, recurrent kernel and bias."""
        raise NotImplementedError

    def weights_by_name(self):
        """Return the tensors that the rule uses."""
        return cast_weights(
            self.compute_dtype, kernel=self.kernel, recurrent_kernel=self.recurrent_kernel, bias=self.bias
        )

    def first_bias(self, shape, dtype=None):
        """Return the first value of the bias."""
        return self.bias_initializer(shape, dtype=dtype)

    def build(self, inputs_shape, topology_shape):
        """Create the weights."""
        self.compute_output_shape(inputs_shape, topology_shape)
        kernel, recurrent_kernel, bias = self.weight_shapes(inputs_shape[-1])
        self.kernel = self.add_weight(
            name="kernel",
            shape=kernel,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=recurrent_kernel,
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=bias,
                initializer=self.first_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs, topology, inputs_mask=None, training=False):
        """Run from the leaves to the roots."""
        whole = np.issubdtype(keras.backend.standardize_dtype(topology.dtype), np.integer)
        expect(
            whole, type(self).__name__, "an integer topology", "See `tree_topology`.", TypeError, dtype=topology.dtype
        )
        topology = ops.cast(topology, "int32")
        inputs, noise = self._drop(ops.cast(inputs, self.compute_dtype), training)
        all_states = tree_states(self.rule(), inputs, topology, self.weights_by_name(), noise, self.return_sequences)
        outputs = all_states[..., : self.units]
        if self.return_sequences:
            there = topology[..., 0] >= 0
            set_mask(outputs, there if inputs_mask is None else ops.logical_and(there, inputs_mask))
        if not self.return_state:
            return outputs
        if self.return_sequences:
            roots = ops.argmax(topology[..., 0], axis=1)[:, None, None]
            all_states = ops.squeeze(ops.take_along_axis(all_states, roots, axis=1), 1)
        return [outputs, *ops.split(all_states, self.states, axis=-1)]

    def _drop(self, inputs, training):
        """Drop features, and return what the states are multiplied with: one mask of each for a tree."""
        noise = None
        if training and self.dropout:
            shape = (ops.shape(inputs)[0], 1, inputs.shape[-1])
            kept = draw_mask(shape, self.dropout, self.seed_generator, per_replica=True)
            inputs = inputs * ops.cast(kept, inputs.dtype)
        if training and self.recurrent_dropout:
            shape = (ops.shape(inputs)[0], self.units)
            noise = draw_mask(shape, self.recurrent_dropout, self.seed_generator, per_replica=True)
            noise = ops.cast(noise, inputs.dtype)
        return inputs, noise

    def compute_mask(self, inputs, previous_mask=None):
        """Pass no mask on: `call` sets that of the nodes."""

    def compute_output_shape(self, inputs_shape, topology_shape):
        """Return the shape of the output, or the list of it and those of the root's states."""
        owner, inputs, topology = type(self).__name__, tuple(inputs_shape), tuple(topology_shape)
        rule = "inputs of shape (batch, nodes, features) with known features"
        expect(len(inputs) == 3 and inputs[-1] is not None, owner, rule, inputs_shape=inputs)
        rule, remedy = "a topology of shape (batch, nodes, 1 + arity) with known arity", "See `tree_topology`."
        expect(len(topology) == 3 and (topology[-1] or 0) >= 2, owner, rule, remedy, topology_shape=topology)
        same = None in (inputs[1], topology[1]) or inputs[1] == topology[1]
        expect(
            same, owner, "as many nodes in the topology as in the inputs", inputs_shape=inputs, topology_shape=topology
        )
        arity = getattr(self, "arity", topology[-1] - 1)
        remedy = f"Pass arity={arity} to the function that makes the topology."
        expect(
            topology[-1] == 1 + arity,
            owner,
            f"room for {arity} children in the topology",
            remedy,
            topology_shape=topology,
        )
        shape = (*inputs[:2], self.units) if self.return_sequences else (inputs[0], self.units)
        return [shape, *[(inputs[0], self.units)] * self.states] if self.return_state else shape

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "recurrent_regularizer": keras.regularizers.serialize(self.recurrent_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "recurrent_constraint": keras.constraints.serialize(self.recurrent_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
        }
        return {**super().get_config(), **config}


class TreeLSTM(TreeLayer):
    """Base class of the Tree-LSTMs: gates, and a bias in the order i, f, g, o. For the arguments see `TreeRNN`."""

    states = 2

    def __init__(self, units, activation="tanh", recurrent_activation="sigmoid", forget_bias=1.0, **kwargs):
        expect_number(type(self).__name__, forget_bias=forget_bias)
        super().__init__(units, activation=activation, **kwargs)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.forget_bias = forget_bias

    def first_bias(self, shape, dtype=None):
        """Return the first value of the bias, in which the forget gate has one of its own."""
        i, _, g, o = ops.split(self.bias_initializer(shape, dtype=dtype), 4)
        return ops.concatenate([i, ops.full((self.units,), self.forget_bias, dtype=dtype), g, o])

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "forget_bias": self.forget_bias,
        }
        return {**super().get_config(), **config}
