# make train    set up, then train on real handwritten digits: two processes, under two minutes
# make test     set up, then everything that CI runs
# make test-full    also the slow tests, at most 90 minutes
# make setup    .venv with pinned dependencies and the native libraries; a second call does nothing
# make faults   inject every fault repeatedly and print the table (minutes)
# make deepspeed    install DeepSpeed without its compiled operators; its tests then run
# make gpu-kit    .gpu/: packages for a machine with a GPU and no network; GPU_PYTHON=... is a Python 3.12 with torch 2.11
# make lint     ruff and mypy;    make bench    every benchmark;    make clean    remove everything except runs/

PYTHON ?= python3
RECIPE ?= digits
GPU_PYTHON ?=
ARGS ?=
SELECT = -m 'not slow'
DEEPSPEED ?= 0.19.8

BIN := .venv/bin
# nproc depends on OMP_NUM_THREADS: 1 thread would mean 1 process.
CORES := $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
PROCESSES := $(shell [ $(CORES) -ge 2 ] && echo 2 || echo 1)
THREADS := $(shell echo $$(( $(CORES) / $(PROCESSES) )))
# The stamp names the possible build, so that a compiler installed later triggers a new build.
COMPILER := $(shell command -v c++ || command -v g++ || command -v clang++)
BACKEND := $(if $(COMPILER),native,reference)
BUILT := .venv/.built-$(BACKEND)
SOURCES := setup.py pyproject.toml fastvae/_version.py $(wildcard csrc/* csrc/*/* csrc/*/*/*)

.PHONY: setup deepspeed train test test-full faults gpu-kit lint bench clean

setup: $(BUILT)

.venv/.installed: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "make: fastvae needs Python >= 3.10; choose one with PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r constraints.txt
	touch $@

$(BUILT): .venv/.installed $(SOURCES)
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

# DeepSpeed builds its operators on first use; the version is the tested one.
deepspeed: setup
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation -c constraints.txt deepspeed==$(DEEPSPEED)

train: setup
	OMP_NUM_THREADS=$(THREADS) $(BIN)/torchrun --standalone --nproc-per-node $(PROCESSES) -m fastvae train $(RECIPE) $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
ifneq ($(COMPILER),)
	PYTHON=$(BIN)/python bash csrc/compile_check.sh
	$(BIN)/python csrc/sass_counts.py --quiet
else
	@echo "no C++ compiler on PATH: the .cu files are not compiled, and the reference is tested alone"
endif
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(SELECT) $(ARGS)

# All tests, including those marked slow: at most 90 minutes on two cores.
test-full: SELECT :=
test-full: test

faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults --faults-full --timeout 3600 \
	    --numprocesses $(PROCESSES) --dist worksteal \
	    --faults-report benchmarks/results/faults_$(shell date +%Y%m).md $(ARGS)

# Its libraries are built in a copy of this tree, so those of this tree do not change.
gpu-kit: .venv/.installed
	GPU_PYTHON=$(GPU_PYTHON) $(BIN)/python benchmarks/gpu_kit.py

bench: setup
	for benchmark in benchmarks/bench_*.py; do $(BIN)/python $$benchmark $(ARGS) || exit 1; done

clean:
	rm -rf .venv build dist *.egg-info fastvae/_C.*.so fastvae/libfastvae_*.so fastvae/_build_info.json
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find fastvae tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .gpu .gpu-venv
