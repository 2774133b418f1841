"""Run benchmarks and print their tables: `python -m benchmarks [NAME …] [--smoke] [--write]`."""

import argparse
import importlib
import re
from pathlib import Path

import keras

from benchmarks import harness

QUESTIONS = (
    "group_normalization",
    "rrelu",
    "maxout_dense",
    "dropconnect",
    "label_smoothing",
    "distiller",
    "compression",
    "compressed_size",
    "recurrent",
    "truncated_bptt",
    "tree_lstm",
    "teacher_forcing",
    "optimizers",
    "gradient_flow",
    "penalties",
    "parameter_tying",
    "monte_carlo",
    "bagging",
    "boosting",
    "import_cost",
)
README = Path(__file__).parent / "README.md"


def main():
    """Run what was asked for; save it unless it is a smoke run; with --write, put the saved tables into README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if none is named: {', '.join(QUESTIONS)}")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs; nothing is saved")
    parser.add_argument("--write", action="store_true", help="run nothing; write the saved tables into README.md")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(QUESTIONS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(QUESTIONS)}")
    if arguments.write:
        README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name in arguments.names or QUESTIONS:
        keras.utils.set_random_seed(harness.SEED)
        results = importlib.import_module(f"benchmarks.{name}").run(arguments.smoke)
        print(f"\n{sections(results)}", flush=True)
        if not arguments.smoke:
            harness.save(name, results)


def sections(results):
    """Return a headed table for each result."""
    return "\n\n".join(f"### {result.title}\n\n{harness.table(result)}" for result in results)


def written(text):
    """Return the text of README.md with the saved results between its markers."""
    saved = {name: harness.load(name) for name in QUESTIONS}
    saved = {name: content for name, content in saved.items() if content is not None}
    blocks = {name: f"{sections(results)}\n\nOn {harness.described(on)}." for name, (on, results) in saved.items()}
    new = harness.summary([result for _, results in saved.values() for result in results])
    blocks["summary"] = merged(text.partition("<!-- summary -->")[2].partition("<!-- /summary -->")[0].strip(), new)
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, b=f"{begin}\n{block}\n{end}": b, text, flags=re.DOTALL)
    return text


def merged(old, new):
    """Return an old table with the rows of new measurements in place of theirs, or behind."""

    def rows(table):
        return {tuple(line.split(" | ")[:2]): line for line in table.splitlines()}

    return "\n".join({**rows(old), **rows(new)}.values())


if __name__ == "__main__":
    main()
