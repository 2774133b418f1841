# Every environment is made on first use, and again when pyproject.toml changes. Any Python from 3.10 to 3.13 will do.
PYTHON ?= python3
PIP := -m pip --disable-pip-version-check install --quiet
# TensorFlow's start-up notes would bury what a command prints.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help quickstart tensorboard test check format bench test-backends test-jax test-torch test-lowest clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

quickstart: .venv/.examples  ## train a teacher, a student and a distilled student on scanned digits
	.venv/bin/python examples/quickstart.py

tensorboard: .venv/.examples  ## look at the runs in logs/
	.venv/bin/tensorboard --logdir logs

test: .venv/.dev  ## every test but those of the other backends
	.venv/bin/python -m pytest $(WORKERS)

check: .venv/.ruff  ## lint and format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: .venv/.ruff  ## mend what `check` finds
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/.dev  ## all benchmarks; on a machine that is doing nothing else
	.venv/bin/python -m benchmarks

test-backends: test-jax test-torch  ## the leaves on JAX and torch, without TensorFlow

test-jax: .venv-jax/.ready
	KERAS_BACKEND=jax .venv-jax/bin/python -m pytest -n 2 $(LEAVES)

test-torch: .venv-torch/.ready
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest -n 2 $(LEAVES)

test-lowest: .venv-lowest/.ready  ## every test with the oldest versions that are supported
	.venv-lowest/bin/python -m pytest $(WORKERS)

clean:  ## remove the environments
	rm -rf .venv .venv-jax .venv-torch .venv-lowest

# Most of a test is tracing, on one core; what a file has trained serves all tests in it.
WORKERS ?= -n 2 --dist loadfile

LEAVES := -m "not slow" tests/test_contract.py tests/test_contract_numbers.py tests/ops tests/layers \
	tests/losses tests/optimizers tests/constraints tests/metrics tests/regularizers \
	keras_kicks/constraints keras_kicks/layers keras_kicks/losses keras_kicks/metrics keras_kicks/optimizers \
	keras_kicks/regularizers

.venv/.made:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.ruff: .venv/.made
	.venv/bin/python $(PIP) "ruff>=0.9"
	touch $@

.venv/.examples: .venv/.made pyproject.toml
	.venv/bin/python $(PIP) --editable ".[examples]"
	touch $@

.venv/.dev: .venv/.made pyproject.toml
	.venv/bin/python $(PIP) --editable ".[dev]"
	touch $@ .venv/.examples .venv/.ruff

.venv-%/.ready: pyproject.toml tests/requirements/%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python $(PIP) --requirement tests/requirements/$*.txt
	.venv-$*/bin/python $(PIP) --no-deps --editable .
	touch $@
