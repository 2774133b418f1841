"""The contract, over the table; and that the table is complete."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import contract
import keras
import numpy as np
import pytest
import subjects
from cases import CASES
from contract import over_cases
from keras import ops

import keras_kicks

DOCS = Path(__file__).parents[1] / "docs" / "components.md"
TOOLS = ("callbacks", "compression", "datasets", "diagnostics")
PARTS = ("constraints", "layers", "losses", "metrics", "models", "optimizers", "regularizers")
AREAS = [getattr(keras_kicks, name) for name in (*TOOLS, *PARTS)]


@over_cases("config")
def test_config_round_trips_and_is_complete(case):
    contract.config(case)


@over_cases("save_and_load")
def test_saves_and_loads(case, tmp_path):
    contract.save_and_load(case, tmp_path)


@over_cases("shapes")
def test_symbolic_shape_is_the_real_one(case):
    contract.shapes(case)


@over_cases("mask")
def test_mask_goes_where_it_is_declared_to(case):
    contract.mask(case)


@pytest.mark.tensorflow
@over_cases("replicas")
def test_two_replicas_train_as_one_device(case, strategy):
    contract.replicas(case, strategy)


def test_a_fresh_process_loads_every_saved_model(tmp_path):
    expected = {}
    for name, case in CASES.items():
        reasons = {**contract.NOT_OWED.get(case.kind, {}), **case.skips}
        if {"every", "save_and_load"} & set(reasons):
            continue
        model, (x, _) = subjects.model_of(case, subjects.make(case))
        model.save(tmp_path / f"{name}.keras")
        arrays = x if isinstance(x, list) else [x]
        np.savez(tmp_path / f"{name}.npz", *arrays, y=ops.convert_to_numpy(model(x)))
        expected[name] = model
    code = """
import sys, pathlib
import keras, numpy as np
import keras_kicks
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    arrays = np.load(path.with_suffix(".npz"))
    x = [arrays[key] for key in arrays if key != "y"]
    y = keras.saving.load_model(path)(x if len(x) > 1 else x[0])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(y), arrays["y"], rtol=1e-6, atol=1e-6)
    print(path.stem)
"""
    ignored = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    command = [sys.executable, "-W", "error", "-W", ignored, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.split()) == sorted(expected)


def public_names():
    """Return the public objects by their dotted name."""
    return {
        f"{area.__name__}.{name}": value
        for area in AREAS
        for name, value in vars(area).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("keras_kicks.")
    }


def test_every_public_name_has_a_case():
    covered = {id(case.public) for case in CASES.values()}
    assert [name for name, value in public_names().items() if id(value) not in covered] == []


def modules():
    """Import and return every module of the package."""
    found = pkgutil.walk_packages(keras_kicks.__path__, "keras_kicks.")
    return [importlib.import_module(module.name) for module in found]


def test_every_name_is_registered_once():
    owners = {}
    for module in modules():
        for value in vars(module).values():
            registered = inspect.isclass(value) or inspect.isfunction(value)
            if registered and value.__module__ == module.__name__:
                owners.setdefault(keras.saving.get_registered_name(value), set()).add(value)
    ours = {name: values for name, values in owners.items() if name.startswith("keras_kicks>")}
    assert ours
    for name, values in ours.items():
        assert values == {keras.saving.get_registered_object(name)}


def test_every_public_class_is_registered_in_this_package():
    abstract = {case.public for case in CASES.values() if case.kind in ("base", "callback", "tool")}
    for name, value in public_names().items():
        if value not in abstract:
            assert keras.saving.get_registered_name(value) == f"keras_kicks>{name.rpartition('.')[2]}"


@pytest.mark.parametrize("name", sorted(public_names()))
def test_docstring_has_its_sections(name):
    value = public_names()[name]
    text = inspect.getdoc(value)
    kinds = {case.kind for case in CASES.values() if case.public is value}
    sections = {"Args", "Returns", "Raises", "Source", "Example"}
    if kinds == {"callback"}:
        sections -= {"Returns", "Source"}
    if kinds == {"tool"}:
        sections -= {"Source", "Example"} | ({"Returns", "Raises"} if inspect.isclass(value) else set())
    if kinds == {"base"}:
        sections -= {"Raises", "Source", "Example"}
    takes_nothing = inspect.isclass(value) and value.__init__ is object.__init__
    if takes_nothing:
        sections -= {"Args"}
    if kinds & {"layer", "cell", "loss", "metric", "model", "regularizer", "constraint"}:
        sections |= {"Call arguments"}
    if kinds <= {"layer", "cell"} and keras_kicks.layers.__name__ in name:
        sections |= {"Masking"}
    found = set(re.findall(r"^([A-Z][a-z]+(?: [a-z]+)?):", text, flags=re.MULTILINE))
    assert sections <= found
    if takes_nothing:
        return
    function = value.__init__ if inspect.isclass(value) else value
    arguments = text.split("\nArgs:\n")[1].split("\n\n")[0]
    described = set(re.findall(r"^ {4}\**(\w+):", arguments, flags=re.MULTILINE))
    assert set(inspect.signature(function).parameters) - {"self", "args"} <= described


@pytest.mark.parametrize("name", sorted(public_names()))
def test_docs_have_a_row(name):
    assert f"| `{name.removeprefix('keras_kicks.')}` |" in DOCS.read_text(encoding="utf-8")
