"""L0 regularization around any layer with a kernel."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_number, expect_seed
from keras_kicks.layers.regularization.gate_penalty import GatePenalty, group_size
from keras_kicks.layers.regularization.kernel_wrapper import KernelWrapper
from keras_kicks.ops.hard_concrete import mean_gates, open_probability, sampled_gates
from keras_kicks.ops.substitution import substituted

_WITH_UNITS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@keras.saving.register_keras_serializable(package="keras_kicks")
class L0(KernelWrapper):
    """Learns which weights of a layer to do without: a penalty on the expected number of weights that are not 0.

    Each weight, or group of weights, is multiplied by a gate z in [0, 1] that has a location log_alpha to learn:

        training:   s = sigmoid((log u - log(1 - u) + log_alpha) / temperature),  u uniform on (0, 1)
                    z = min(max(s (high - low) + low, 0), 1)
        inference:  z = min(max(sigmoid(log_alpha) (high - low) + low, 0), 1)
        penalty:    weight * sum over gates of (weights of the gate) * P(z > 0)  +  l2 * sum P(z > 0) w^2
                    P(z > 0) = sigmoid(log_alpha - temperature log(-low / high))

    Gates are drawn once a batch, on every replica the same. The wrapped layer is not changed: its constraints and
    regularizers see the kernel without gates. `strip` returns a plain layer with the gates of inference multiplied
    in, zeros exactly 0; `keras_kicks.compression.strip_l0` a model of them.

    Args:
        layer: A layer with a kernel: Dense, EinsumDense, Conv1D/2D/3D and others, or a recurrent layer whose cells
            have one, also a Bidirectional one.
        weight: Price of a weight that is not 0, >= 0. The paper's lambda is of a sum over samples: divide it by their
            number.
        gates: What has a gate of its own: "weight"; "input", all weights from an input feature (or, of recurrent
            kernels, from a state); or "output", all weights into a unit or filter, with its bias.
        drop_rate: Where the locations start, in (0, 1): log_alpha = log((1 - drop_rate) / drop_rate).
        temperature: The paper's beta, > 0.
        stretch: (low, high), the paper's gamma and zeta: low < 0, high > 1.
        l2: Factor of the expected sum of squares, >= 0.
        seed: None or an integer.
        **kwargs: Base layer arguments, such as `name`; the dtype policy is the wrapped layer's.

    Call arguments:
        inputs: What the wrapped layer takes.
        training: Whether to draw gates.
        **kwargs: Passed to the wrapped layer, such as `initial_state` and `mask`.

    Returns:
        What the wrapped layer returns.

    Raises:
        TypeError: `layer` is no Keras layer; a number is none.
        ValueError: expected a finite weight >= 0; l2 >= 0; gates to be one of the three; 0 < drop_rate < 1;
            temperature > 0; stretch of low < 0 and high > 1; Dense, Conv1D/2D/3D (in one group for "input") or, for
            "input", a recurrent layer where gates are not of single weights; a layer with a kernel, which is floating,
            and without LoRA (when called).

    Masking:
        As the wrapped layer.

    Source:
        Louizos, Welling and Kingma 2018, arXiv:1712.01312. Departures: locations start without noise; a gate of an
        output holds the bias too.

    Example:
        >>> import numpy as np
        >>> layer = L0(keras.layers.Dense(1, kernel_initializer="ones"), 1e-3, seed=0)
        >>> keras.ops.convert_to_numpy(layer(np.ones((1, 4)))).round(3).tolist()
        [[2.0]]
        >>> numbers = [layer.active_weights(), layer.expected_l0()]
        >>> [round(float(keras.ops.convert_to_numpy(number)), 2) for number in numbers]
        [4.0, 3.33]
    """

    def __init__(
        self,
        layer,
        weight=1e-5,
        gates="weight",
        drop_rate=0.5,
        temperature=2 / 3,
        stretch=(-0.1, 1.1),
        l2=0.0,
        seed=None,
        **kwargs,
    ):
        owner = type(self).__name__
        super().__init__(layer, **kwargs)
        expect_number(owner, weight=weight, drop_rate=drop_rate, temperature=temperature, l2=l2)
        expect(weight >= 0, owner, "weight >= 0", weight=weight)
        expect(l2 >= 0, owner, "l2 >= 0", l2=l2)
        expect_choice(owner, ("weight", "input", "output"), gates=gates)
        expect(0 < drop_rate < 1, owner, "0 < drop_rate < 1", drop_rate=drop_rate)
        expect(temperature > 0, owner, "temperature > 0", temperature=temperature)
        self.weight, self.gates, self.drop_rate = float(weight), gates, float(drop_rate)
        self.temperature, self.stretch, self.l2 = float(temperature), _checked_stretch(owner, stretch), float(l2)
        self._expect_groups()
        self.seed = seed
        expect_seed(owner, seed)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Build the wrapped layer, and a location for each gate."""
        super().build(input_shape)
        self._expect_variable_kernels("a kernel that is a variable")
        start = keras.initializers.Constant(math.log((1 - self.drop_rate) / self.drop_rate))
        self.log_alphas = [
            self.add_weight(
                shape=self._gate_shape(group[0]),
                initializer=start,
                regularizer=GatePenalty(group, self.weight, self.l2, self.temperature, self.stretch),
                name="log_alpha" if index == 0 else f"log_alpha_{index}",
            )
            for index, group in enumerate(self._groups())
        ]

    def call(self, inputs, training=None, **kwargs):
        """Call the wrapped layer with gated weights."""
        self._expect_variable_kernels("a kernel that is a variable")
        self._expect_floating_kernels("gate")
        if training:
            gates = [sampled_gates(a.value, self.seed_generator, *self._shape()) for a in self.log_alphas]
        else:
            gates = [mean_gates(a.value, self.stretch) for a in self.log_alphas]
        with substituted(self.layer, self._gated(gates), self.add_loss):
            return self.layer(inputs, training=training, **kwargs)

    def expected_l0(self):
        """Return the expected number of gated weights that are not 0 in training, a scalar."""
        pairs = [(open_probability(a.value, *self._shape()), group) for a, group in self._pairs()]
        return sum(ops.sum(probability) * group_size(group, probability) for probability, group in pairs)

    def active_weights(self):
        """Return the number of gated weights whose gate is not 0 in inference, an integer tensor."""
        pairs = [(mean_gates(a.value, self.stretch), group) for a, group in self._pairs()]
        return sum(ops.sum(ops.cast(gate > 0, "int32")) * group_size(group, gate) for gate, group in pairs)

    def strip(self):
        """Return a plain layer of the wrapped one's class and name, with the gates of inference in its weights."""
        layer = type(self.layer).from_config(self.layer.get_config())
        layer.build_from_config(self.layer.get_build_config())
        self.give(layer)
        return layer

    def give(self, layer):
        """Assign the gated weights to a built layer of the wrapped one's class."""
        gates = [mean_gates(a.value, self.stretch) for a in self.log_alphas]
        values = {id(variable): value for variable, value in self._gated(gates)}
        for new, old in zip(layer.variables, self.layer.variables, strict=True):
            new.assign(values.get(id(old), old.value))

    def _gated(self, gates):
        """Return the variables that gates belong to, with their values under them."""
        pairs = []
        for gate, (kernel, *bias) in zip(gates, self._groups(), strict=True):
            pairs.append((kernel, kernel.value * gate))
            pairs += [(b, b.value * ops.reshape(gate, b.shape)) for b in bias]
        return pairs

    def _pairs(self):
        """Return the locations, each with the variables that have its gates."""
        return list(zip(self.log_alphas, self._groups(), strict=True))

    def _groups(self):
        """Return each kernel, with the bias that its gates hold too."""
        kernels = self._kernels()
        bias = getattr(self.layer, "bias", None) if self.gates == "output" else None
        return [(kernel,) if bias is None else (kernel, bias) for kernel in kernels]

    def _gate_shape(self, kernel):
        shape = tuple(kernel.shape)
        if self.gates == "weight":
            return shape
        if self.gates == "input":
            return (*(1 for _ in shape[:-2]), shape[-2], 1)
        return (*(1 for _ in shape[:-1]), shape[-1])

    def _expect_groups(self):
        layer, recurrent = self.layer, any(hasattr(self.layer, name) for name in ("cell", "forward_layer"))
        known = isinstance(layer, _WITH_UNITS) or (recurrent and self.gates == "input")
        if self.gates == "input":
            known = known and getattr(layer, "groups", 1) == 1
        rule = f"a layer whose kernel has an axis of {self.gates}s"
        remedy = 'Use gates="weight".'
        expect(known or self.gates == "weight", type(self).__name__, rule, remedy, layer=type(layer).__name__)

    def _shape(self):
        return self.temperature, self.stretch

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "weight": self.weight,
            "gates": self.gates,
            "drop_rate": self.drop_rate,
            "temperature": self.temperature,
            "stretch": list(self.stretch),
            "l2": self.l2,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}


def _checked_stretch(owner, stretch):
    """Return the limits of the stretched gates as a tuple."""
    pair = isinstance(stretch, (list, tuple)) and len(stretch) == 2
    expect(pair, owner, "stretch to be (low, high)", error=TypeError, stretch=stretch)
    expect_number(owner, low=stretch[0], high=stretch[1])
    expect(stretch[0] < 0 and stretch[1] > 1, owner, "stretch of low < 0 and high > 1", stretch=stretch)
    return float(stretch[0]), float(stretch[1])
