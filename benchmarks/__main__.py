"""Run benchmarks and print their tables: `python -m benchmarks [NAME …] [--smoke] [--write]`."""

import argparse
import importlib
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from benchmarks import harness

QUESTIONS = (
    "group_normalization",
    "rrelu",
    "maxout_dense",
    "dropconnect",
    "label_smoothing",
    "distiller",
    "import_cost",
)
README = Path(__file__).parent / "README.md"


def main():
    """Run what was asked for; save it unless it is a smoke run; with --write, put the saved tables into README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *QUESTIONS], help="all if none is named")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs; nothing is saved")
    parser.add_argument("--write", action="store_true", help="run nothing; write the saved tables into README.md")
    arguments = parser.parse_args()
    names = arguments.names or QUESTIONS
    if arguments.write:
        write(names)
        return
    for name in names:
        results = importlib.import_module(f"benchmarks.{name}").run(arguments.smoke)
        for result in results:
            print(f"\n### {result.title}\n\n{harness.table(result)}", flush=True)
        if not arguments.smoke:
            harness.save(name, results)


def write(names):
    """Put the saved tables between the markers of README.md."""
    text = README.read_text(encoding="utf-8")
    for name in names:
        saved = harness.load(name)
        if saved is None:
            continue
        machine, results = saved
        tables = "\n\n".join(f"### {result.title}\n\n{harness.table(result)}" for result in results)
        block = f"<!-- {name} -->\n{tables}\n\nOn {machine}.\n<!-- /{name} -->"
        text = re.sub(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.DOTALL)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
