"""What does `import keras_kicks` cost beyond `import keras`?"""

import subprocess
import sys

from benchmarks.harness import Result

CODE = """
import time
import keras
start = time.perf_counter()
import keras_kicks
print(time.perf_counter() - start)
"""
BOUND = 60


def run(smoke=False):
    """Time the import in fresh processes, after Keras's."""
    command = [sys.executable, "-c", CODE]
    runs = [
        float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
        for _ in range(2 if smoke else 15)
    ]
    middle = sorted(runs)[len(runs) // 2] * 1e3
    met = "met" if middle <= BOUND else "**not met**"
    note = f"Target: {BOUND} ms at most; {met}. Each in a fresh process, after `import keras`."
    return [Result("import keras_kicks", "ms", {"keras_kicks, after keras": runs}, [], [note])]
