"""Gradient clipping around any optimizer."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice
from keras_kicks.ops.replicas import assign_all
from keras_kicks.optimizers.functional_optimizer import dense, hook_gradients, is_update, read, snapshot
from keras_kicks.optimizers.non_finite import raise_where
from keras_kicks.optimizers.transforms.adaptive_clip import AdaptiveClip
from keras_kicks.optimizers.transforms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from keras_kicks.optimizers.transforms.percentile_clip import PercentileClip
from keras_kicks.optimizers.transforms.transform import Step
from keras_kicks.optimizers.wrapper import Wrapper, where_all

RULES = {
    "global_norm": ClipByGlobalNorm,
    "norm": ClipByNorm,
    "value": ClipByValue,
    "adaptive": AdaptiveClip,
    "percentile": PercentileClip,
}


@keras.saving.register_keras_serializable(package="keras_kicks")
class GradientClipping(Wrapper):
    """Clips the gradients of any Keras optimizer, after those of all replicas were summed.

    With dW the gradient of all variables and g the limit,

        dW <- (g / |dW|) dW    where |dW| > g

    for `by="global_norm"`; the other rules are those of `ClipByNorm`, `ClipByValue`, `AdaptiveClip` and
    `PercentileClip`. Under `tf.distribute` an optimizer of Keras clips what each replica has before it sums, which is
    another step than that of one device; this one makes the same. With gradient accumulation it clips the accumulated
    gradient. `gradient_norm`, `clip_rate` and `non_finite_steps` tell how it goes.

    Args:
        optimizer: A Keras optimizer that was not used yet, or its name.
        by: "global_norm", "norm", "value", "adaptive" or "percentile".
        limit: Of the rule; for "percentile" the percentile. None for "adaptive" and "percentile" is 0.01 and 10.
        non_finite: What happens to a step with a NaN or infinite gradient: "skip" leaves all variables as they are and
            counts it, "raise" does that and raises an error that names the variables, None makes the step.
        name: Name.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: `optimizer` is no Keras optimizer; `limit` is no number.
        ValueError: expected `by` to be one of the five; `non_finite` to be one of the three; a limit in the range of
            the rule; an optimizer that is not in use. In training with "raise": finite gradients. Where the step is
            compiled with XLA by TensorFlow nothing can be raised from inside: there it is skipped and counted.

    Source:
        Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063; see the rules.

    Example:
        >>> optimizer = GradientClipping(keras.optimizers.SGD(1.0), limit=5.0)
        >>> w = keras.Variable([0.0, 0.0])
        >>> optimizer.apply([keras.ops.convert_to_tensor([30.0, 40.0])], [w])
        >>> [round(float(x), 3) for x in w.numpy()], optimizer.gradient_norm, optimizer.clip_rate
        ([-3.0, -4.0], 50.0, 1.0)
    """

    def __init__(self, optimizer, by="global_norm", limit=None, non_finite=None, name=None):
        owner = type(self).__name__
        expect_choice(owner, tuple(RULES), by=by)
        expect_choice(owner, ("raise", "skip", None), non_finite=non_finite)
        needed = limit is not None or by in ("adaptive", "percentile")
        expect(needed, owner, f"a limit for by={by!r}", "Pass a number > 0.", limit=limit)
        rule = RULES[by]() if limit is None else RULES[by](limit)
        super().__init__(optimizer, name=name)
        self.by, self.limit, self.non_finite, self.rule = by, limit, non_finite, rule
        hook_gradients(self.innermost(), self._clip)

    def build_own(self, variables):
        """Create what the rule remembers, and the number of steps that were not finite."""
        self._remembered = {
            name: self.add_variable(shape, keras.initializers.Constant(initial), dtype, name=name)
            for name, (shape, initial, dtype) in self.rule.own().items()
        }
        self._non_finite_steps = self.add_variable((), "zeros", "int32", name="non_finite_steps")

    def _clip(self, gradients, variables):
        names = sorted(self._remembered)
        old = [read(self._remembered[name]) for name in names]
        values = [ops.cast(read(v), g.dtype) for v, g in zip(variables, gradients, strict=True)]
        now = Step(None, None, values, [v.path for v in variables], list(range(len(variables))))
        clipped, state = self.rule.update(gradients, dict(zip(names, old, strict=True)), now)
        new, updates = [state[name] for name in names], is_update(self.innermost())
        if updates is not None:
            new = where_all(updates, new, old)
        assign_all([self._remembered[name] for name in names], new)
        return clipped

    def around(self, grads, variables):
        """Let the inner optimizer make the step, if it is one."""
        if self.non_finite is None:
            self.optimizer.apply(grads, variables)
            return
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        finite = [ops.all(ops.isfinite(dense(g, v))) for g, v in pairs]
        all_finite = ops.all(ops.stack(finite))
        targets = [*variables, *self.variables]
        old = [snapshot(v) for v in targets]
        self.optimizer.apply(grads, variables)
        kept = where_all(all_finite, [read(v) for v in targets], old)
        place = next(i for i, v in enumerate(targets) if v is self._non_finite_steps)
        kept[place] = old[place] + ops.cast(ops.logical_not(all_finite), "int32")
        assign_all(targets, kept)
        if self.non_finite == "raise":
            raise_where(type(self).__name__, finite, [v.path for _, v in pairs])

    @property
    def gradient_norm(self):
        """The norm of all gradients of the last step, before clipping; 0 before the first."""
        return self._number("norm")

    @property
    def clip_rate(self):
        """The share of the steps so far in which anything was clipped."""
        return self._number("clipped") / max(self._number("steps"), 1)

    @property
    def non_finite_steps(self):
        """The number of steps with a gradient that was not finite; they are counted with `non_finite` only."""
        return int(ops.convert_to_numpy(self._non_finite_steps)) if self.built else 0

    def _number(self, name):
        return float(ops.convert_to_numpy(self._remembered[name])) if self.built else 0.0

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "by": self.by, "limit": self.limit, "non_finite": self.non_finite}
