"""Times contestants in turns, and compares them round by round.

On a machine that others use too, times drift by a factor of two within minutes; the ratio of two runs that follow
each other does not. So every round runs each contestant once, in an order drawn anew, and what is reported is the
median over rounds of the ratio to a peer, with its quartiles.
"""

import dataclasses
import json
import os
import platform
import random
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
# Of the inputs, the layers' draws and the order of the contestants.
SEED = 0
QUARTILES = (0.25, 0.5, 0.75)


@dataclasses.dataclass
class Ratio:
    """A comparison of one contestant with another.

    Attributes:
        ours: A contestant.
        peer: Another, or None for the value of `ours` itself.
        target: The bound that the project set itself, or None.
    """

    ours: str
    peer: str | None
    target: float | None = None

    def name(self):
        """Return how the comparison is called in a table."""
        return self.ours if self.peer is None else f"{self.ours} / {self.peer}"


@dataclasses.dataclass
class Result:
    """What one question found.

    Attributes:
        title: The question.
        unit: Of the values: "ms" or "MiB".
        values: The values of each round, by contestant.
        ratios: The comparisons to show.
        notes: Sentences to print below the table.
    """

    title: str
    unit: str
    values: dict
    ratios: list
    notes: list = dataclasses.field(default_factory=list)


def race(contestants, rounds, warmup=3):
    """Return the milliseconds that each contestant took in each round.

    Args:
        contestants: Dict of functions without arguments that return when their work is done.
        rounds: Number of rounds.
        warmup: Runs of each before the first round.
    """
    for run in contestants.values():
        for _ in range(warmup):
            run()
    values = {name: [] for name in contestants}
    order = list(contestants)
    shuffle = random.Random(SEED).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            contestants[name]()
            values[name].append(1e3 * (time.perf_counter() - start))
    return values


def quartiles(result, ratio):
    """Return the quartiles over rounds of a comparison."""
    values = np.array(result.values[ratio.ours])
    if ratio.peer is not None:
        values = values / np.array(result.values[ratio.peer])
    return [float(q) for q in np.quantile(values, QUARTILES)]


def table(result):
    """Return the result as Markdown."""
    lines = [f"| contestant | median {result.unit} | quartiles |", "| - | -: | -: |"]
    lines += [f"| {name} | {_spread(np.quantile(values, QUARTILES))} |" for name, values in result.values.items()]
    if result.ratios:
        lines += ["", "| ratio | median | quartiles | target | met |", "| - | -: | -: | -: | - |"]
    for ratio in result.ratios:
        lines.append(
            f"| {ratio.name()} | {_spread(quartiles(result, ratio))} | {' | '.join(_verdict(result, ratio))} |"
        )
    notes = ["", *result.notes] if result.notes else []
    return "\n".join([*lines, *notes])


def summary(results):
    """Return the comparisons of all results that have a target, as Markdown."""
    lines = ["| question | ratio | measured | target | met |", "| - | - | -: | -: | - |"]
    for result in results:
        for ratio in result.ratios:
            if ratio.target is not None:
                middle = _number(quartiles(result, ratio)[1])
                lines.append(f"| {result.title} | {ratio.name()} | {middle} | {' | '.join(_verdict(result, ratio))} |")
    return "\n".join(lines)


def _verdict(result, ratio):
    if ratio.target is None:
        return "", ""
    met = quartiles(result, ratio)[1] <= ratio.target
    return _number(ratio.target), "yes" if met else "**no**"


def _spread(values):
    low, middle, high = map(_number, values)
    return f"{middle} | {low} to {high}"


def _number(value):
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def conditions():
    """Return the machine, the versions and the seed."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    packages = ("keras", "tensorflow", "torch", "numpy")
    versions = {"Python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "versions": versions, "seed": SEED}


def described(conditions):
    """Return the machine and the versions, in words."""
    versions = ", ".join(f"{name} {number}" for name, number in conditions["versions"].items())
    machine = f"{conditions['cpu']}, {conditions['cores']} cores, no accelerator, {conditions['system']}"
    return f"{machine}; {versions}; seed {conditions['seed']}"


def save(name, results):
    """Write results as JSON, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    content = {"conditions": conditions(), "results": [dataclasses.asdict(result) for result in results]}
    partial = RESULTS / f"{name}.partial"
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(partial, RESULTS / f"{name}.json")


def load(name):
    """Return the conditions and the results that were saved, or None."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    results = [
        Result(**{**result, "ratios": [Ratio(**ratio) for ratio in result["ratios"]]}) for result in content["results"]
    ]
    return content["conditions"], results
