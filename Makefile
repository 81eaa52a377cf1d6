# Every verb of the repository; `make help` lists them. The first one that needs it makes the environment in .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
# An index to take torch from, and torch alone: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Arguments of `make fuzz`.
FUZZ ?=

BIN := .venv/bin
PIP := -m pip --disable-pip-version-check --quiet install
EDITABLE := protos plugins/sdk clients/python[cli] server[export] plugins/training plugins/shop plugins/pricing[build] plugins/semantic[build] plugins/reviews[build]
DISTRIBUTIONS := $(foreach item,$(EDITABLE),$(firstword $(subst [, ,$(item))))
PYPROJECTS := pyproject.toml $(DISTRIBUTIONS:%=%/pyproject.toml)
# The tests call the server from Node too, where there is npm.
NODE := tests/interop/node
NODE_READY := $(if $(shell command -v npm 2>/dev/null),$(NODE)/node_modules/.ready)
BENCHMARKS := overhead isolation swap stream client start encoder overload lengths priority depth

.PHONY: notice help demo serve test check fix fuzz gen bench dist docs clean $(BENCHMARKS:%=bench-%)

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: notice .venv/.ready ## make the environment, export both models, serve them, call them, stop
	@$(BIN)/mercato demo

serve: .venv/.ready ## serve both models until interrupted, and print how to call them
	@$(BIN)/mercato serve

# Two at a time, as the machine they must pass on has two cores; a file's tests share its servers, so they stay together.
# torch's own threads would take the cores from each other.
test: .venv/.ready $(NODE_READY) ## run all tests
	@OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: .venv/.ready .venv-gen/.ready ## lint, format, types, import rules, stale generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	.venv-gen/bin/python protos/generate.py --check

fix: .venv/.ready ## repair what ruff can, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: .venv/.ready ## fuzz the decoder for 60 s, then a server with random requests; FUZZ="--seconds 600" for longer
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python $(PIP) --constraint constraints.txt --group fuzz
	@$(BIN)/python -m tests.fuzz $(FUZZ)
	@RANDOM_SEEDS=1 $(BIN)/pytest tests/server/bad/test_fuzz.py

gen: .venv-gen/.ready ## write the generated half of mercato.v1
	.venv-gen/bin/python protos/generate.py

bench: $(BENCHMARKS:%=bench-%) ## run every benchmark

bench-overhead: ## server CPU per Predict beside a bare gRPC echo

bench-isolation: ## plugins in processes of their own beside threads of the server

bench-swap: ## a version swapped for another one under load

bench-stream: ## PredictStream beside unary Predict, requests per second

bench-client: ## client CPU per Predict beside a bare generated stub

bench-start: ## seconds from process start to SERVING, and where they go

bench-encoder: ## texts per second with 16 callers beside in-process onnxruntime

bench-overload: ## goodput, refusals and recovery at up to three times the capacity

bench-lengths: ## padding and texts per second with mixed lengths beside plain padding

bench-priority: ## an urgent caller's p99 beside a flood, with and without priorities

bench-depth: ## CPU per request of the queue at depths 10, 1 000 and 10 000

$(BENCHMARKS:%=bench-%): bench-%: .venv/.ready
	@$(BIN)/python -m bench.$*

dist: .venv/.ready ## write a wheel and an sdist of every distribution to dist/
	@rm -rf dist
	@for folder in $(DISTRIBUTIONS); do $(BIN)/python -m build --no-isolation --outdir dist $$folder || exit 1; done

docs: .venv/.ready ## check the documents: links, verbs, both languages
	@$(BIN)/pytest tests/docs tests/repository/test_documents.py

clean: ## remove the environments, dist/ and every cache
	rm -rf .venv .venv-gen $(NODE)/node_modules dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

notice:
	@echo "the first run takes about 2 GB of disk and 2 to 5 minutes (several GB more where pip chooses PyTorch's" \
	  "CUDA build: TORCH_INDEX=https://download.pytorch.org/whl/cpu avoids it); later runs train again, in about a minute"

.venv/.ready: constraints.txt $(PYPROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mercato needs Python 3.11 or newer: make PYTHON=...")'
	@echo "installing into .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP) --constraint constraints.txt pip
	@$(if $(TORCH_INDEX),$(BIN)/python $(PIP) --constraint constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	@$(BIN)/python $(PIP) --constraint constraints.txt --group dev $(addprefix --editable ,$(EDITABLE))
	@touch $@

$(NODE)/node_modules/.ready: $(NODE)/package.json $(NODE)/package-lock.json
	@npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.venv-gen/.ready: constraints.txt pyproject.toml
	@$(PYTHON) -m venv .venv-gen
	@.venv-gen/bin/python $(PIP) --constraint constraints.txt pip
	@.venv-gen/bin/python $(PIP) --group gen
	@touch $@
