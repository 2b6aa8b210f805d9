# `make demo` and `make test` need nothing but Python 3.11 or newer: they make .venv themselves.
#   make demo ARGS="--headless"           make demo TORCH=cpu (the first time: no CUDA libraries)
#   make test PYTEST_ARGS="tests/unit -k box"
#   make test PYTHON=/path/to/python3.12

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# pysodmetrics wants an older numpy than napari runs with here: its tests have a place of their own.
EVAL := $(VENV)/eval
EVAL_TESTS := $(addprefix tests/unit/evaluate/test_,saliency.py baselines.py)
ARGS ?=
PYTEST_ARGS ?=

# 3.11 first: the versions in constraints.txt were checked with it.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$python" && break; done)

# TORCH=cpu: torch without CUDA's libraries. On Linux that is a version of its own, which an index may have.
TORCH ?=
define CPU_TORCH
if [ "$$(uname -s)" != Linux ]; then \
	echo "TORCH=cpu: torch brings no CUDA libraries on this system anyway"; \
elif ! $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	$$(sed -n -E 's/^(torch|torchvision)==([0-9.]+)$$/\1==\2+cpu/p' constraints.txt) 2>/dev/null; then \
	echo "TORCH=cpu: pip's package index has no CPU build of torch for Linux, so the ordinary one is" \
		"installed. PyTorch keeps it on an index of its own (pytorch.org/get-started/locally):" \
		"make demo TORCH=cpu PIP_EXTRA_INDEX_URL=..." >&2; \
fi
endef

ifeq ($(wildcard $(BIN)/napari-pisam),)
.PHONY: $(STAMP)
endif

.PHONY: help setup system demo test test-eval lowest lint format benchmark docs tiny screenshots clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Python 3.11 or newer is needed. Install it, or name one: make PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		.ci/system-packages venv "$(PYTHON)" && "$(PYTHON)" -m venv $(VENV); \
	fi
	@echo "Installing into $(VENV) (the first time: some minutes, several GB)"
	@$(if $(filter cpu,$(TORCH)),$(CPU_TORCH))
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

system:
	@.ci/system-packages display

demo: setup ## segment real images into demo-output/, then show one in napari where there is a display
	@if [ -n "$$DISPLAY" ]; then .ci/system-packages display || true; fi
	$(BIN)/napari-pisam demo $(ARGS)

lint: setup ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(EVAL)/.installed: constraints-eval.txt $(STAMP)
	@echo "Installing pysodmetrics and OpenCV into $(EVAL)"
	@rm -rf $(EVAL) && $(BIN)/python -m venv $(EVAL) && \
		$(EVAL)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-eval.txt \
		pysodmetrics opencv-python-headless pytest && touch $@

# What cannot be installed cannot be tested; what is installed has to pass.
test-eval: setup ## the tests that need pysodmetrics and OpenCV, in an environment without torch
	@if $(MAKE) --no-print-directory $(EVAL)/.installed; then \
		PYTHONPATH=src $(EVAL)/bin/python -m pytest -q $(EVAL_TESTS); \
	else \
		echo "WARNING: pysodmetrics and OpenCV could not be installed; their tests are skipped." >&2; \
	fi

# Without a screen, napari draws on a virtual one: Qt's "offscreen" platform has no OpenGL.
WINDOW = $(if $(DISPLAY),,$(shell command -v xvfb-run >/dev/null && \
	echo 'env QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1600x1000x24"'))
PYTEST := $(BIN)/python -m pytest
WINDOW_TESTS := tests/gui tests/test_site.py
OTHER_TESTS := $(filter-out $(WINDOW_TESTS),$(wildcard tests/unit tests/integration tests/test_*.py))

# Tests of windows wait for most of their time: they run beside the others, with a thread each.
# With "set -m" they do not ignore the interrupts that some of them are about.
test: lint system $(if $(PYTEST_ARGS),,test-eval) ## lint, then all tests
ifneq ($(PYTEST_ARGS),)
	$(WINDOW) $(PYTEST) $(PYTEST_ARGS)
else
	@set -m; export OMP_NUM_THREADS=1; windows=$$(mktemp); \
	$(WINDOW) $(PYTEST) $(WINDOW_TESTS) >"$$windows" 2>&1 </dev/null & beside=$$!; set +m; \
	trap 'kill -TERM -- -$$beside; rm -f "$$windows"; exit 130' INT TERM; \
	$(PYTEST) $(OTHER_TESTS); others=$$?; \
	wait $$beside; status=$$?; cat "$$windows"; rm -f "$$windows"; \
	exit $$(( others ? others : status ))
endif

# In an environment of its own; tests that need later versions say so themselves.
LOWEST := $(VENV)/lowest
lowest: system ## all tests with the lowest versions that pyproject.toml allows
	"$(PYTHON)" -m venv --clear $(LOWEST) && $(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct \
		-r pyproject.toml --extra dev
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --no-deps -e .
	$(WINDOW) $(LOWEST)/bin/python -m pytest -W default $(PYTEST_ARGS)

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: setup ## times and memory on this machine, beside segment_anything's own predictor
	$(BIN)/napari-pisam benchmark $(ARGS)

docs: setup ## build the documentation's site into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

tiny: setup ## make the weights of the embedded model anew, into runs/ (hours; needs ../shared/data)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r recipes/tiny/requirements.txt
	$(BIN)/python -m recipes.tiny $(ARGS)

screenshots: setup system ## use the docks and take pictures of them, into docs/images/
	@for script in docs/screenshots.py docs/first_mask.py docs/stack_screenshots.py docs/series_screenshots.py docs/finetune_screenshots.py; do \
		$(WINDOW) $(BIN)/python $$script || exit; \
	done

clean: ## remove caches, builds and demo-output/; .venv stays
	rm -rf build dist site demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks recipes -name __pycache__ -type d -prune -exec rm -rf {} +
