"""Every benchmark runs, and its table is well formed. Nothing is timed here."""

import importlib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
QUESTIONS = sorted(
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if path.stem not in ("__init__", "__main__", "harness", "networks", "steps", "stock")
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)


def test_make_bench_runs_all_of_them():
    main = importlib.import_module("benchmarks.__main__")
    assert sorted(main.QUESTIONS) == QUESTIONS
    text = main.README.read_text(encoding="utf-8")
    for name in QUESTIONS:
        assert f"<!-- {name} -->" in text


@pytest.mark.parametrize("name", QUESTIONS)
def test_smoke_run_makes_tables(name):
    harness = importlib.import_module("benchmarks.harness")
    for result in importlib.import_module(f"benchmarks.{name}").run(smoke=True):
        assert len({len(values) for values in result.values.values()}) == 1
        rows = [line for line in harness.table(result).splitlines() if line.startswith("|")]
        for contestant in result.values:
            assert any(row.startswith(f"| {contestant} |") for row in rows)
        for ratio in result.ratios:
            row = next(row for row in reversed(rows) if row.startswith(f"| {ratio.name()} |"))
            if ratio.target is not None:
                assert row.split(" | ")[-1] in ("yes |", "**no** |")


def test_a_ratio_is_taken_within_a_round():
    """Times that drift together leave the ratio as it is."""
    harness = importlib.import_module("benchmarks.harness")
    ratio = harness.Ratio("a", "b", 0.4)
    result = harness.Result("drift", "ms", {"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0, 200.0]}, [ratio])
    assert harness.quartiles(result, ratio) == [0.5, 0.5, 0.5]
    assert "| a / b | 0.50 | 0.50 to 0.50 | 0.40 | **no** |" in harness.table(result)
