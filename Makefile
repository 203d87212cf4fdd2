# make train    set up, then train on real handwritten digits: two processes, under two minutes
# make test     set up, then everything that CI runs
# make setup    .venv with pinned dependencies and the native libraries; a second call finds nothing to do
# make faults   inject every fault as often as it takes, and print the table (minutes)
# make deepspeed    DeepSpeed too, without its compiled operators; its tests then run
# make gpu-kit    .gpu/: what a machine with a GPU and no network lacks; GPU_PYTHON=... is a Python 3.12 with torch 2.11
# make lint     ruff and mypy;    make bench    every benchmark;    make clean    remove all of it but runs/

PYTHON ?= python3
RECIPE ?= digits
GPU_PYTHON ?=
ARGS ?=
DEEPSPEED ?= 0.19.8

BIN := .venv/bin
# nproc obeys OMP_NUM_THREADS, where 1 thread would become 1 process.
CORES := $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
PROCESSES := $(shell [ $(CORES) -ge 2 ] && echo 2 || echo 1)
THREADS := $(shell echo $$(( $(CORES) / $(PROCESSES) )))
# A compiler that appears later gets its build: the stamp names what the build could be.
COMPILER := $(shell command -v c++ || command -v g++ || command -v clang++)
BACKEND := $(if $(COMPILER),native,reference)
BUILT := .venv/.built-$(BACKEND)
SOURCES := setup.py pyproject.toml fastvae/_version.py $(wildcard csrc/* csrc/*/* csrc/*/*/*)

.PHONY: setup deepspeed train test faults gpu-kit lint bench clean

setup: $(BUILT)

.venv/.installed: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "make: fastvae needs Python >= 3.10; choose one with PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r constraints.txt
	touch $@

$(BUILT): .venv/.installed $(SOURCES)
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

# It builds what it needs when it first needs it; the version is the one that the tests were run with.
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
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults --faults-full --timeout 3600 \
	    --numprocesses $(PROCESSES) --dist worksteal \
	    --faults-report benchmarks/results/faults_$(shell date +%Y%m).md $(ARGS)

# Its libraries are built in a copy of this tree, so the ones here stay as they are.
gpu-kit: .venv/.installed
	GPU_PYTHON=$(GPU_PYTHON) $(BIN)/python benchmarks/gpu_kit.py

bench: setup
	for benchmark in benchmarks/bench_*.py; do $(BIN)/python $$benchmark $(ARGS) || exit 1; done

clean:
	rm -rf .venv build dist *.egg-info fastvae/_C.*.so fastvae/libfastvae_*.so fastvae/_build_info.json
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find fastvae tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .gpu .gpu-venv
