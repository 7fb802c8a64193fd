# The HGI-SAM book. `make help` lists the targets.
PYTHON  ?= python3
PROFILE ?= laptop
RUNS_DIR ?= runs
SET     ?=
RSNA    ?=
CT_ICH  ?=
TAKE_FROM ?= book/recorded
VENV    ?= .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
TEST    := _build/test
CODE    := hgisam data_prep hgisam_scans book ci tests

export MPLCONFIGDIR ?= $(CURDIR)/_build/matplotlib
export PYTHONUTF8 = 1

.DEFAULT_GOAL := help
.PHONY: help book print test lint serve clean clean-runs environment

help: ## list the targets
	@echo "make book|print [PROFILE=laptop|smoke|paper] [SET=\"train.epochs=3 …\"] [RUNS_DIR=runs] [RSNA=/path CT_ICH=/path] [TAKE_FROM=]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

BUILD := HGISAM_BOOK_PID=$$PPID $(BIN)/python book/build.py
RUN   = --profile "$(PROFILE)" --runs-dir "$(RUNS_DIR)" --set "$(SET)" --rsna "$(RSNA)" --ct-ich "$(CT_ICH)" \
	--take-from "$(TAKE_FROM)"

book: $(STAMP) ## run everything and render the book: _build/html/index.html
	@$(BUILD) $(RUN)

print: $(STAMP) ## the same, and write the book as PDF and EPUB too; needs Chromium
	@$(BUILD) $(RUN) --print

test: lint ## run lint, types, every notebook in the smoke profile, the gates on the site, the test suite
	@$(BIN)/python ci/check_wheel.py
	@rm -rf $(TEST)
	@$(BUILD) --profile smoke --runs-dir $(TEST)/runs --site $(TEST)/html
	@$(BIN)/python ci/check_executed.py $(TEST)/runs/smoke
	@$(BIN)/python ci/check_print.py $(TEST)/html $(TEST)/runs/smoke
	@$(BIN)/python ci/check_site.py $(TEST)/html
	@$(BIN)/python ci/check_browser.py $(TEST)/html
	@$(BIN)/python -m pytest -q

lint: $(STAMP) ## run lint, types, spelling
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check --line-length 88 book/*.ipynb
	@$(BIN)/ruff format --check --line-length 88 book/*.ipynb
	@$(BIN)/mypy
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md book/*.md book/*.ipynb $(CODE)
	@$(BIN)/python ci/check_language.py
	@$(BIN)/python ci/write_numbers.py --check
	@$(BIN)/python ci/check_notebooks.py
	@$(BIN)/python ci/check_exercises.py

serve: ## serve the book at http://127.0.0.1:8000
	@test -f _build/html/index.html || { echo "There is no rendered book yet: run make book" >&2; exit 2; }
	@$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean: ## remove the rendered site and caches; keep runs
	rm -rf _build .mypy_cache .pytest_cache .ruff_cache

clean-runs: ## remove every run: studies, models, results
	rm -rf "$(RUNS_DIR)" .snakemake

environment: $(STAMP) ## install the Python environment only, in .venv

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "Installing the pinned packages into $(VENV): about 7 GB with PyTorch, 10 during installation ($$(df -Ph . | awk 'NR == 2 {print $$4}') free here), several minutes, once."
	@test -x $(BIN)/python -a -x $(BIN)/pip || if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	  else $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; fi || { \
	  echo "make: no environment in $(VENV); install venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
