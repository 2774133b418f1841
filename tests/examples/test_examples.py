"""Every example runs, in seconds, from another directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FORMS = ["as trained", "pruned", "clustered", "quantized", "pruned-quantized"]
ONLY_TABLES = {"batch_size", "characters", "list_ops", "long_lag"}
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_smoke_run(tmp_path, path):
    environment = {**os.environ, "KERAS_KICKS_LOGS": str(tmp_path / "logs"), "PYTHONWARNINGS": "default"}
    command = [sys.executable, str(path), "--smoke"]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    events = [file.read_bytes() for file in (tmp_path / "logs").rglob("*tfevents*")]
    assert events
    # Events hold pictures as files of this kind.
    assert any(b"\x89PNG" in event for event in events) or path.stem in ONLY_TABLES
    if path.stem == "quickstart":
        rows = [line for line in run.stdout.splitlines() if line.endswith(tuple("0123456789")) and "%" in line]
        assert [row[:18].strip() for row in rows] == ["teacher", "student alone", "student distilled"]
        assert "make tensorboard" in run.stdout
    if path.stem in ("quickstart", "compress"):
        assert [line.split("  ")[0] for line in run.stdout.splitlines() if line.endswith(" us")][-5:] == FORMS
