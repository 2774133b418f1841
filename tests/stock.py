"""Stock TFMOT on Keras 2: the oracle of the compression tests, in a process of its own.

TFMOT makes `tf.keras` Keras 2 for the process that imports it, which no other test could bear. So an oracle is a file
`tests/compression/stock_<task>.py` with a function `run(arrays, **settings)` that imports TFMOT inside and returns a
dict of arrays; a test asks for it by `stock.run(task, arrays, **settings)`.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def run(task, arrays, timeout=300, **settings):
    """Return what `run(arrays, **settings)` of `tests/compression/stock_<task>.py` returns in a new process.

    Args:
        task: Name of the file.
        arrays: Dict of arrays.
        timeout: Seconds.
        **settings: What JSON can hold.
    """
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "arrays.npz"), **arrays)
        Path(folder, "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, __file__, task, folder]
        done = subprocess.run(
            command, env=environment, cwd=HERE, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(Path(folder, "result.npz")) as result:
            return dict(result)


def _serve(task, folder):
    """Run the task here, between files."""
    import importlib

    module = importlib.import_module(f"compression.stock_{task}")
    with np.load(Path(folder, "arrays.npz")) as file:
        arrays = dict(file)
    settings = json.loads(Path(folder, "settings.json").read_text(encoding="utf-8"))
    np.savez(Path(folder, "result.npz"), **module.run(arrays, **settings))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
