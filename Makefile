# One virtual environment in .venv, and the project's commands in it. `make help` lists them.

PYTHON   ?= python3
TORCH    ?=
PIP_ARGS ?=
ARGS     ?=
ONLY     ?=
JOBS     ?= 2

# Tests of different files run side by side; JOBS=0 runs all in one process, for a debugger.
side_by_side := -n $(JOBS) --dist loadfile

# pytest's exit code where ARGS choose tests of the other kind only.
none_of_them := [ $$? -eq 5 ]

BIN := .venv/bin
PIP  = $(BIN)/python -m pip install --no-compile -c constraints.txt $(PIP_ARGS)

# pyproject.toml allows a range of releases; constraints.txt says which one is tested.
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
torch_cuda    := torch===$(TORCH_VERSION)
torch_pinned  := torch==$(TORCH_VERSION)
torch         := $(if $(filter cuda,$(TORCH)),$(torch_cuda),$(torch_pinned)$(if $(TORCH),+$(TORCH)))

.PHONY: help sweep bench test test-slow test-all chaos cluster-test coverage lint format docs wheel install \
    aws gcp lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do \
	    printf 'make %-10s %s\n' "$$name" "$$text"; done

sweep: .venv/.run ## run the embedded default sweep; ARGS="..." go to experiments/sweep.py
	@$(BIN)/python experiments/sweep.py $(ARGS)

bench: .venv/.dev ## measure everything beside its baselines, 22 minutes; ARGS=gpu with a GPU; ONLY="row ..."
	@$(BIN)/python experiments/benchmarks/suite.py $(ARGS) $(if $(ONLY),--only $(ONLY))

test: .venv/.dev ## run the quick tests, JOBS files at a time; ARGS="..." go to pytest
	@$(BIN)/python -m pytest -m "not slow" $(side_by_side) $(ARGS)

test-slow: .venv/.dev ## run the tests that take minutes
	@$(BIN)/python -m pytest -m "slow and not alone" $(side_by_side) $(ARGS) || $(none_of_them)
	@$(BIN)/python -m pytest -m "slow and alone" $(ARGS) || $(none_of_them)

test-all: test test-slow ## run every test

coverage: .venv/.dev ## run the quick tests and fail if they reach less than pyproject.toml asks for
	@$(BIN)/python -m pytest -m "not slow" $(side_by_side) --cov --cov-report=term-missing --cov-report=xml $(ARGS)

lint: .venv/.dev ## style, format, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/.dev ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/.docs ## write the pages of docs/ to site/; fails on a link that leads nowhere
	$(BIN)/python docs/settings_table.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'site/index.html'

install: .venv/.run ## only install what a sweep needs

aws: .venv/.aws ## install what a sweep and `ray up` on AWS need

gcp: .venv/.gcp ## install what a sweep and `ray up` on Google Cloud need

wheel: ## build dist/*.whl, install it alone and run its default sweep in an empty folder
	@rm -rf build dist .venv-wheel && $(PYTHON) -m venv .venv-wheel
	@.venv-wheel/bin/pip wheel -qq --no-deps --wheel-dir dist $(PIP_ARGS) .
	@.venv-wheel/bin/pip install -qq -c constraints.txt $(PIP_ARGS) '$(torch)' dist/*.whl
	@elsewhere=$$(mktemp -d) && trap 'rm -rf "$$elsewhere"' EXIT && cd "$$elsewhere" && \
	    '$(CURDIR)/.venv-wheel/bin/sg-ray' sweep $(smoke) && \
	    test -s outputs/smoke/report.html

# A sweep of seconds that ends in a report, for which the wheel must hold the page's template.
smoke := name=smoke families=[gnn] data.num_samples=240 lr_range.enabled=false \
    search.num_trials=1 replicate.top_k=1 replicate.seeds=[42] replicate.max_seeds=null \
    replicate.variance_seeds=0

chaos: .venv/.dev ## kill sweeps and nodes at some 40 random moments and compare; ARGS="--rounds 4 --seed 1"
	@$(BIN)/python tests/sweep/chaos.py $(ARGS)

cluster-test: .venv/.dev ## run labs of several machines, SLURM, ssh and signals; ONLY=name runs one
	@$(BIN)/python tests/cluster/run_labs.py $(ONLY)

clean: ## remove the environments and tool caches; outputs/ and mlflow.db stay
	rm -rf .venv .venv-wheel build dist site *.egg-info .coverage coverage.xml
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find sg_ray experiments tests -type d -name __pycache__ -prune -exec rm -rf {} +

# --- Installing -----------------------------------------------------------------------------
# A stamp is written last, so an interrupted install is not taken for a whole one; what it left
# (.venv/.installing is still there) is thrown away. pip's own configuration holds throughout.

.venv/.run: pyproject.toml constraints.txt
	$(call install,-e .)
	@touch $@

.venv/.dev: pyproject.toml constraints.txt
	$(call install,-e '.[dev]')
	@touch .venv/.run .venv/.aws .venv/.docs .venv/.gcp $@

.venv/.aws .venv/.gcp: pyproject.toml constraints.txt
	$(call install,-e '.[$(@:.venv/.%=%)]')
	@touch .venv/.run $@

.venv/.docs: pyproject.toml constraints.txt
	$(call install,-e '.[docs]')
	@touch .venv/.run $@

# --no-compile plus one import of what a sweep uses takes half the time of compiling all the
# packages, of which most modules are never loaded. It also shows that they can be loaded. Where
# Python is told to write no bytecode, every process of a sweep would compile what is left out.
define warm_up
import compileall
import mlflow, optuna, ray.train.torch, ray.tune, sklearn.linear_model, torch._dynamo
import mlflow.store.db.utils, mlflow.store.tracking.sqlalchemy_store, sklearn.feature_extraction.text
import ray._private.metrics_agent, ray.autoscaler._private.monitor, ray.dashboard.optional_deps
import ray.dashboard.agent, transformers.models.roberta.modeling_roberta, sg_ray
for package in (mlflow.store, ray._private, ray.dashboard, sg_ray):
    compileall.compile_dir(package.__path__[0], quiet=2, workers=0)
endef
export warm_up

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12 ...'; \
	    exit 1; }
	@test ! -e .venv/.installing || { echo 'The last install did not finish: anew.'; rm -rf .venv; }
	@mkdir -p .venv && touch .venv/.installing
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo 'Installing into .venv (a few minutes the first time) ...'
	@test '$(TORCH)' || command -v nvidia-smi >/dev/null || test "$$(uname -s)" != Linux || \
	    $(PIP) -qq --dry-run --no-deps '$(torch_pinned)+cpu' >/dev/null 2>&1 || { \
	    echo 'Note: there is no NVIDIA GPU here, but pip knows no CPU build of torch, so it may load'; \
	    echo 'gigabytes of CUDA packages. Ctrl-C to stop; docs/quickstart.md helps.'; }
	@$(PIP) -qq setuptools '$(torch)' || { \
	    echo 'pip could not install $(torch): see docs/quickstart.md, "PyTorch for CPU or GPU".'; exit 1; }
	@$(PIP) -qq --no-build-isolation $(1)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c "$$warm_up"
	@rm .venv/.installing
endef

# A dry run, so the CUDA packages of the default Linux build are resolved but not downloaded.
# torch stays at its release, as each computes other last digits: TORCH_VERSION=... moves it.
lock: ## resolve the newest versions that pyproject.toml allows into constraints.txt
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/pip install -qq --dry-run --ignore-installed --report .venv-lock/report.json \
	    $(PIP_ARGS) setuptools '$(torch_cuda)' '.[dev]'
	@.venv-lock/bin/python -c "$$write_lock" .venv-lock/report.json > .venv-lock/constraints.txt
	@mv .venv-lock/constraints.txt constraints.txt && rm -rf .venv-lock

define write_lock
import json, sys
print("# Every package at one version, for Python 3.11 to 3.13 on Linux; written by `make lock`.")
packages = [item["metadata"] for item in json.load(open(sys.argv[1]))["install"]]
pins = {f"{p['name']}=={p['version']}" for p in packages if p["name"] != "sg-ray"}
print(*sorted(pins, key=str.lower), sep=chr(10))
endef
export write_lock
