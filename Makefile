# Everything below makes its own .venv from the project's files; only Python and pip are needed.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-long test-longest test-oldest claims benchmark benchmark-decoding benchmark-serving gpu lint docs docs-serve dist clean

# Four minutes of CPU, the environment included, which has none of the tests' packages.
demo: .venv/demo
	@$(BIN)/python -m training.dates.demo

# With PYTHONDONTWRITEBYTECODE a process compiles all that it imports, and takes twice as long to
# start; the tests start hundreds.
PYTEST := PYTHONDONTWRITEBYTECODE= TF_CPP_MIN_LOG_LEVEL=2 \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/ready export/web/node_modules/ready
	$(PYTEST) -m "not long and not longest"

# The README as it stands, recipes from end to end, kills, JAX, XLA, bfloat16, several devices,
# the clients.
test-long: .venv/ready export/web/node_modules/ready
	$(PYTEST) -m "long and not longest"

# Not part of .ci/run: a training that is killed ten times, replicas that come and go, more of Ray.
test-longest: .venv/ready
	$(PYTEST) -m longest

# The short tests of what depends on other packages, with the lowest versions that setup.cfg allows.
OLDEST := layers models tasks text exporting
test-oldest: .oldest/ready
	PYTHONDONTWRITEBYTECODE= TF_CPP_MIN_LOG_LEVEL=2 .oldest/bin/python -m pytest -n 2 \
		--dist loadfile -m "not long and not longest" \
		$(OLDEST:%=tests/%)

# About half an hour: sixteen experiments, from which docs/claims.md is written.
claims: .venv/ready
	$(BIN)/python -m training.claims.run

# Half an hour: our exports against CTranslate2, Hugging Face and KerasHub, whose environments take
# 6 GB. DATA=FOLDER of Multi30k, RUN=RUN of a trained model, OPTIONS="..." as its --help says.
benchmark-decoding: .venv/ready .peers/vt/ready .peers/vk/ready
	$(BIN)/python -m export.benchmark.decoding $(if $(DATA),--data $(DATA)) $(if $(RUN),--run $(RUN)) $(OPTIONS)

# Half an hour: our server against the bare engine and CTranslate2 behind FastAPI. RUN=RUN of a trained
# model, SOURCE=FILE of texts, OPTIONS="..." as its --help says.
benchmark-serving: .venv/ready .peers/vs/ready
	$(BIN)/python -m export.benchmark.serving.measure $(RUN) --source $(SOURCE) \
		--output export/benchmark/serving/results.md $(OPTIONS)

# Packs what a GPU is to train and measure into runs/gpu, and does so where GPU_PYTHON has JAX with a
# GPU; else take the folder to such a machine: training/gpu/README.md. DATA=FOLDER of Multi30k.
GPU_PYTHON ?= python3
gpu: .venv/ready
	$(BIN)/python -m training.gpu.pack $(DATA) --output runs/gpu $(OPTIONS)
	@cd runs/gpu && if $(GPU_PYTHON) -c "import jax; assert jax.default_backend() == 'gpu'" 2> /dev/null; \
	then PYTHONPATH=packages $(GPU_PYTHON) -m training.gpu.run . --output out; \
	else echo "$(GPU_PYTHON) has no JAX with a GPU: take runs/gpu to a machine that has."; fi

# An hour and 24 GB: our training against PyTorch, Hugging Face and Keras' own
# attention, in the same environments. DATA=FOLDER of Multi30k, OPTIONS="..." as its --help says.
benchmark: .venv/ready .peers/vt/ready .peers/vk/ready
	$(BIN)/python -m training.benchmark.training_speed $(if $(DATA),--data $(DATA)) $(OPTIONS)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site, in site/; strict: a link that leads nowhere fails.
MKDOCS := NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true PYTHONPATH=.:docs/site .site/bin/mkdocs
docs: .site/ready
	$(MKDOCS) build --quiet

docs-serve: .site/ready
	$(MKDOCS) serve

# The wheel and the source distribution, in dist/, checked as the package index would.
dist: .dist/ready
	.dist/bin/python -m build
	.dist/bin/twine check --strict dist/*

.dist/ready: setup.cfg
	$(PYTHON) -m venv .dist
	.dist/bin/python -m pip install -qq --disable-pip-version-check 'build>=1.2' 'twine>=6'
	touch $@

.site/ready: docs/requirements.txt
	$(PYTHON) -m venv .site
	.site/bin/python -m pip install -qq --disable-pip-version-check --requirement $<
	touch $@

# -qq leaves out pip's warnings, which tell of its own settings; an error is still printed. What is
# imported is compiled then: of TensorFlow's files that are few.
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check

.venv/demo: setup.cfg pyproject.toml
	@echo "Making .venv with TensorFlow, 1.7 GB: one to three minutes without a word."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable '.[dates]'
	@touch $@

.venv/ready: .venv/demo
	$(PIP) --editable '.[test,lint]'
	touch $@

.oldest/ready: setup.cfg tests/oldest.txt
	$(PYTHON) -m venv .oldest
	.oldest/bin/python -m pip install -qq --no-compile --disable-pip-version-check \
		--constraint tests/oldest.txt --editable '.[completion,recipes]' filelock pytest pytest-xdist
	touch $@

.peers/vt/ready: export/benchmark/requirements-torch.txt
.peers/vk/ready: export/benchmark/requirements-tensorflow.txt
.peers/vs/ready: export/benchmark/requirements-serving.txt
.peers/%/ready:
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# What the page for browsers runs on; where npm cannot bring it, its tests are skipped.
export/web/node_modules/ready: export/web/package-lock.json
	cd export/web && npm ci --silent && touch node_modules/ready || echo "no page for browsers"

clean:
	rm -rf .venv .site .dist .oldest .peers build dist runs site export/web/node_modules
