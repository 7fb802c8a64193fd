# The HGI-SAM book. `make help` lists the targets.
PYTHON  ?= python3
PROFILE ?= laptop
RUNS_DIR ?= runs
SET     ?=
RSNA    ?=
CT_ICH  ?=
TRAIN   ?=
TAKE_FROM ?= book/recorded
KEY     ?=
CLASS   ?= _build/class.zip
SEED    ?= 0
VENV    ?= .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
TEST    := _build/test
CODE    := hgisam data_prep hgisam_scans book ci tests

export MPLCONFIGDIR ?= $(CURDIR)/_build/matplotlib
export PYTHONUTF8 = 1
# pip keeps whole downloads in its cache, and resumes one that was cut off
export PIP_RETRIES ?= 10
export PIP_RESUME_RETRIES ?= 10
export PIP_TIMEOUT ?= 60
export PIP_DISABLE_PIP_VERSION_CHECK = 1
ifneq ($(shell test -w "$${XDG_CACHE_HOME:-$${HOME:-/nonexistent}}" && echo yes),yes)
export PIP_CACHE_DIR ?= $(CURDIR)/_build/pip
endif

.DEFAULT_GOAL := help
.PHONY: help book class print test check smoke wheel lint sam serve clean clean-runs environment

help: ## list the targets
	@echo "make book|print [PROFILE=laptop|smoke|paper] [SET=\"train.epochs=3 …\"] [RUNS_DIR=runs] [RSNA=/path CT_ICH=/path] [TRAIN=all] [TAKE_FROM=book/recorded] [KEY=yes]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

BUILD := HGISAM_BOOK_PID=$$PPID $(BIN)/python book/build.py
RUN   = --profile "$(PROFILE)" --runs-dir "$(RUNS_DIR)" --set "$(SET)" --rsna "$(RSNA)" --ct-ich "$(CT_ICH)" \
	--train "$(TRAIN)" --take-from "$(TAKE_FROM)" --key "$(KEY)"

book: $(STAMP) ## run everything and render the book: _build/html/index.html
	@$(BUILD) $(RUN) --first-pages

print: $(STAMP) ## the same, and write the book as PDF and EPUB, and the slides; needs Chromium
	@$(BUILD) $(RUN) --print

test: $(STAMP) ## run lint, types, every notebook in the smoke profile, the gate on its site, the test suite
	@$(MAKE) --no-print-directory -j2 smoke lint wheel
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses=logical --maxprocesses=8 --dist=worksteal

check: $(STAMP) ## print the smoke book, and check every page in a browser; after make test, needs Chromium
	@test -f $(TEST)/html/index.html || $(MAKE) --no-print-directory smoke
	@$(BIN)/python ci/check_print.py $(TEST)/html $(TEST)/runs/smoke
	@$(BIN)/python ci/check_site.py $(TEST)/html
	@$(BIN)/python ci/check_browser.py $(TEST)/html

smoke: $(STAMP) # every notebook in the smoke profile, from nothing, and the gates on what it made
	@rm -rf $(TEST)
	@$(BUILD) --profile smoke --runs-dir $(TEST)/runs --site $(TEST)/html
	@$(BIN)/python ci/check_executed.py $(TEST)/runs/smoke
	@$(BIN)/python ci/check_site.py $(TEST)/html

wheel: $(STAMP) # the wheel holds everything that is needed
	@$(BIN)/python ci/check_wheel.py

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

sam: $(STAMP) ## fetch a small Segment Anything (37 MB, needs npm) into sam/, for the ladder of labels
	@$(BIN)/python ci/fetch_sam.py sam

class: $(STAMP) ## write the zip of a class, CLASS=_build/class.zip, and its key beside it; another SEED is another set
	@$(BIN)/python book/class_zip.py "$(CLASS)" --seed "$(SEED)"

serve: ## serve the book at http://127.0.0.1:8000
	@test -f _build/html/index.html || { echo "There is no rendered book yet: run make book" >&2; exit 2; }
	@$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean: ## remove the rendered site and caches; keep runs
	rm -rf _build .mypy_cache .pytest_cache .ruff_cache

clean-runs: ## remove every run: studies, models, results
	rm -rf "$(RUNS_DIR)" .snakemake

environment: $(STAMP) ## install the Python environment only, in .venv

PIP := $(BIN)/python -m pip install
NOT_INSTALLED := { echo "make: not everything was installed, see above; the same command resumes, and whole downloads are kept" >&2; exit 2; }

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "▶ environment 1/3: Python in $(VENV)"
	@test -x $(BIN)/python -a -x $(BIN)/pip || if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	  else $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; fi || { \
	  echo "make: no environment in $(VENV); install venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "▶ environment 2/3: $$(grep -c == requirements.lock) packages, about 7 GB with PyTorch, 10 during installation ($$(df -Ph . | awk 'NR == 2 {print $$4}') free here), several minutes, once"
	@$(PIP) --quiet --upgrade pip || $(NOT_INSTALLED)
	@$(PIP) -r requirements.lock || $(NOT_INSTALLED)
	@echo "▶ environment 3/3: the packages of this repository"
	@$(PIP) --quiet --no-deps -e . || $(NOT_INSTALLED)
	@touch $@
	@echo "✓ environment ($$(du -sh $(VENV) | cut -f 1))"
