"""What does `import keras_kicks` cost beyond `import keras`?"""

import os
import subprocess
import sys

from benchmarks.harness import Ratio, Result

CODE = """
import time
start = time.perf_counter()
import keras
middle = time.perf_counter()
import keras_kicks
print(middle - start, time.perf_counter() - middle)
"""
KERAS, OURS = "keras", "keras_kicks, after keras"


def run(smoke=False):
    """Time both imports in fresh processes, one after the other in each."""
    # As after any first import: compiled to bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def imported():
        command = [sys.executable, "-c", CODE]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=environment)
        return [1e3 * float(seconds) for seconds in done.stdout.split()]

    imported()
    runs = [imported() for _ in range(2 if smoke else 15)]
    values = dict(zip((KERAS, OURS), zip(*runs, strict=True), strict=True))
    # Within one process, since the whole of `import keras` varies by more than what is asked for.
    return [Result("import keras_kicks", "ms", values, [Ratio(OURS, None, 60)])]
