# Everything here runs in .venv, which is made on first use and again whenever the requirements change.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.requirements-installed

.DEFAULT_GOAL := help
.PHONY: help test lint demo bench clean

help: ## Show these commands
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile

# Two at a time, since most tests wait for a server most of the time; a file's tests stay together and share theirs.
test: lint ## Check the code, then run all tests
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile

lint: $(READY) ## Check style, formatting and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

demo: $(READY) ## Show the whole flow on this machine (ONCE=1: end after one run)
	ONCE=$(ONCE) $(VENV)/bin/python -m tools.demo

bench: $(READY) ## Measure the loader beside its peers
	$(VENV)/bin/python -m benchmarks

clean: ## Remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -r {} +

$(READY): requirements.txt requirements-dev.txt tools/setup.sh
	tools/setup.sh $(PYTHON) $(VENV)
	@touch $@
