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
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass
class Target:
    """A bound on the ratio of one contestant to another."""

    ours: str
    peer: str
    bound: float


@dataclasses.dataclass
class Result:
    """What one question found.

    Attributes:
        title: The question.
        unit: Of the values.
        times: Values of each round, by contestant.
        targets: The bounds that the project set itself.
        notes: Sentences to print below the table.
    """

    title: str
    unit: str
    times: dict
    targets: list
    notes: list = dataclasses.field(default_factory=list)


def race(contestants, rounds, warmup=3):
    """Return the seconds that each contestant took in each round.

    Args:
        contestants: Dict of functions without arguments that return when their work is done.
        rounds: Number of rounds.
        warmup: Runs of each before the first round.
    """
    for run in contestants.values():
        for _ in range(warmup):
            run()
    times = {name: [] for name in contestants}
    order = list(contestants)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            contestants[name]()
            times[name].append(time.perf_counter() - start)
    return times


def ratio(result, ours, peer):
    """Return the quartiles of the ratio of two contestants."""
    values = np.array(result.times[ours]) / np.array(result.times[peer])
    return [float(q) for q in np.quantile(values, [0.25, 0.5, 0.75])]


def table(result):
    """Return the result as Markdown."""
    names = list(result.times)
    scale, digits = (1e3, 2) if result.unit == "ms" else (1, 1)
    lines = [f"| contestant | median {result.unit} | quartiles |", "| - | -: | -: |"]
    for name in names:
        low, middle, high = np.quantile(np.array(result.times[name]) * scale, [0.25, 0.5, 0.75])
        lines.append(f"| {name} | {middle:.{digits}f} | {low:.{digits}f} to {high:.{digits}f} |")
    bounds = {(target.ours, target.peer): target.bound for target in result.targets}
    ours = {target.ours for target in result.targets} or {names[0]}
    pairs = [(name, peer) for name in names if name in ours for peer in names if peer != name]
    # Two of ours are compared only where a target says so.
    pairs = [pair for pair in pairs if pair[1] not in ours or pair in bounds]
    if pairs:
        lines += ["", "| ratio | median | quartiles | target | met |", "| - | -: | -: | -: | - |"]
    for name, peer in pairs:
        low, middle, high = ratio(result, name, peer)
        bound = bounds.get((name, peer))
        verdict = ("", "") if bound is None else (f"{bound:.2f}", "yes" if middle <= bound else "**no**")
        lines.append(f"| {name} / {peer} | {middle:.2f} | {low:.2f} to {high:.2f} | {' | '.join(verdict)} |")
    return "\n".join([*lines, "", *result.notes]).rstrip()


def machine():
    """Return the machine and the versions, in words."""
    import keras
    import tensorflow as tf
    import torch

    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    versions = {"Python": platform.python_version(), "keras": keras.__version__, "tensorflow": tf.__version__}
    versions |= {"torch": torch.__version__, "numpy": np.__version__}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{cpu}, {os.cpu_count()} cores, no accelerator; {listed}"


def save(name, results):
    """Write results as JSON, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": machine(), "results": [dataclasses.asdict(result) for result in results]}
    partial = RESULTS / f"{name}.partial"
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, RESULTS / f"{name}.json")


def load(name):
    """Return the machine and the results that were saved, or None."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    results = [
        Result(**{**result, "targets": [Target(**target) for target in result["targets"]]})
        for result in content["results"]
    ]
    return content["machine"], results
