# AI for Medical Diagnosis: make help
# Every target makes the environment (.venv) that it needs; a second call costs nothing.

.DEFAULT_GOAL := help
.PHONY: help run lint check test lab notebooks results data grade nbgrader-course clean distclean

PYTHON := .venv/bin/python
DATA ?=
NOTEBOOKS ?=
SUBMISSIONS ?=
OPTIONS ?=
COLD ?=
ARCHIVE ?=
FAST := repository tools notebooks evaluation nih png words decathlon predictions weights public_tests
export TF_CPP_MIN_LOG_LEVEL ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## show this list
	@echo "make <target>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1@\2/p' Makefile | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'
	@echo "  for one notebook:    make run NOTEBOOKS=02"
	@echo "  cold times:          make notebooks COLD=1    (cohorts generated anew, as for a first use)"
	@echo "  real archives:       make data                (the list)    make data ARCHIVE=\"chestmnist --size 64\""
	@echo "  with real patients:  make run DATA=folder    (it holds nih/, brats/ and predictions/, or some of them)"

run: .venv/.installed-dev  ## run all notebooks top to bottom; executed copies go to build/
	@$(PYTHON) -m tools.run_notebooks $(NOTEBOOKS) $(if $(DATA),--data "$(DATA)")

lint: .venv/.installed-dev
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/codespell

check: lint  ## before each commit: lint, format, spelling and the fast tests, in three minutes
	@$(PYTHON) -m pytest -q --numprocesses 2 --dist loadfile $(FAST:%=tests/test_%.py)

test: lint  ## run every test, the notebooks included (REAL_DATA=folder: on real patients too)
	@$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations=30

lab: .venv/.installed  ## open JupyterLab on your own copies of the student notebooks, in work/ (OPTIONS=--no-browser …)
	@$(PYTHON) -m tools.lab $(OPTIONS)

notebooks: .venv/.installed-dev  ## rebuild the committed notebooks from the lessons, and the results table
	@$(PYTHON) -m tools.build_notebooks $(NOTEBOOKS) $(if $(COLD),--cold)
	@$(PYTHON) -m tools.results

results: .venv/.installed-dev  ## write the measured results into the README
	@$(PYTHON) -m tools.results

data: .venv/.installed  ## download a real archive: make data ARCHIVE="decathlon --cases 20"; without ARCHIVE, the list
	@$(PYTHON) -m data.download $(ARCHIVE)

grade: .venv/.installed-dev  ## mark submitted notebooks: make grade SUBMISSIONS=folder-or-zip OPTIONS="--roster class.csv"
	@$(PYTHON) -m grading $(if $(SUBMISSIONS),"$(SUBMISSIONS)" $(OPTIONS),--help)

nbgrader-course: .venv/.installed-dev  ## lay out an nbgrader course directory in nbgrader-course/
	@$(PYTHON) -m grading.nbgrader_course $(foreach number,$(NOTEBOOKS),--notebook $(number))

clean:  ## remove what runs have made, never marks: build/, generated cohorts, caches
	@for made in build/*; do \
	  if [ -n "$$(find "$$made" \( -name seed.txt -o -name gradebook.db -o -name submitted \) 2>/dev/null | head -n 1)" ]; then \
	    echo "kept, for it holds marks or submissions: $$made"; \
	  else rm -rf "$$made"; fi; done
	rm -rf data/cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf .venv

.venv/bin/python:
	@for python in python3 python3.13 python3.12 python3.11 python; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "This course needs Python 3.11, 3.12 or 3.13 (TensorFlow supports no other). Found: $$(python3 --version 2>&1 | head -n 1)." >&2; \
	  echo "Install one from https://www.python.org/downloads/ or your system's packages, and call make again." >&2; exit 1; \
	fi; \
	echo "Making the environment .venv with $$($$found --version)"; \
	$$found -m venv .venv || { rm -rf .venv; echo "The environment could not be made; the line above says why. If venv is missing, on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }

.venv/.installed: requirements.txt | .venv/bin/python
	@echo "Installing what the notebooks need (first time: about 600 MB, some minutes)"
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip
	@$(PYTHON) -m pip install -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements.txt requirements-dev.txt | .venv/bin/python
	@echo "Installing what the notebooks and tests need (first time: about 600 MB, some minutes)"
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip
	@$(PYTHON) -m pip install -r requirements-dev.txt
	@touch .venv/.installed $@
