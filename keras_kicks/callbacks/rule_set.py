"""Several rules of early stopping as one."""

import warnings

from keras_kicks._errors import expect, expect_choice, expect_integer
from keras_kicks.callbacks.prechelt_rules import GL, PQ, UP, LowProgress
from keras_kicks.callbacks.stopping_rule import Patience, StoppingRule

RULES = {"patience": Patience, "GL": GL, "PQ": PQ, "UP": UP, "LowProgress": LowProgress}


class RuleSet:
    """Shows checks to rules, and says whether to stop.

    Args:
        owner: Whom to name in errors.
        rules: A rule or its name, or a list of these.
        combine: "any" or "all".
        start_from: Checks at the beginning that the rules do not see.

    Attributes:
        checks: A `StoppingCheck` for each check.
        reason: A sentence, or None.
        stopped: The check that said so, or None.
    """

    def __init__(self, owner, rules, combine, start_from):
        expect_choice(owner, ("any", "all"), combine=combine)
        expect_integer(owner, start_from=start_from)
        expect(start_from >= 0, owner, "start_from >= 0", start_from=start_from)
        self._owner, self._combine, self._start_from = owner, combine, start_from
        self.rules = _rules(owner, rules)
        self.names = list(dict.fromkeys(name for rule in self.rules for name in rule.monitors))
        self.start()

    def start(self):
        """Forget everything."""
        for rule in self.rules:
            rule.start()
        self.checks, self.reason, self.stopped = [], None, None
        self._warned = set()

    @property
    def counts(self):
        """Whether the rules have seen the last check."""
        return len(self.checks) > self._start_from

    @property
    def improved(self):
        """Whether the last check was the best, by the first rule."""
        return self.counts and self.rules[0].improved

    def check(self, check):
        """Show a check to the rules; return whether to stop.

        Raises:
            ValueError: expected metrics of the rules' names.
        """
        validated = any(known.startswith("val_") for known in check.values)
        remedy = "Pass validation_data to fit, or to this callback. If fit has a validation_freq, pass that too."
        remedy = "" if validated else remedy
        rule = f"monitor to be one of {', '.join(map(repr, check.values)) or 'nothing'}"
        for name in self.names:
            expect(name in check.values, self._owner, rule, remedy, monitor=name)
        check = check._replace(values={name: float(check.values[name]) for name in self.names})
        self.checks.append(check)
        if not self.counts:
            return False
        self._warn(check)
        said = {rule: rule.check(check) for rule in self.rules}
        stop = any(said.values()) if self._combine == "any" else all(said.values())
        if stop:
            whys = [f"{rule.label} at {check.place}: {rule.why()}" for rule in self.rules if said[rule]]
            self.reason, self.stopped = "; ".join(whys) + ".", check
        return stop

    def _warn(self, check):
        for name, value in check.values.items():
            if name not in self._warned and value - value != 0:
                self._warned.add(name)
                text = f"{self._owner}: {name} is {value} at {check.place}; it counts as worse than any number."
                warnings.warn(text, stacklevel=2)


def _rules(owner, given):
    """Return a list of rules."""
    rules = []
    for rule in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(rule, str):
            expect_choice(owner, tuple(RULES), rules=rule)
            rule = RULES[rule]()
        remedy = "Pass an instance, such as GL(alpha=5)."
        expect(isinstance(rule, StoppingRule), owner, "rules that are StoppingRule", remedy, TypeError, rules=rule)
        expect(all(rule is not other for other in rules), owner, "no rule twice", rules=given)
        rules.append(rule)
    expect(len(rules) > 0, owner, "at least one rule", rules=given)
    return rules
