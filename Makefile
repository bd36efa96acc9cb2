# Everything here runs in .venv, which is made on first use and again whenever the requirements change.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.requirements-installed
VERSION = $(shell sed -n 's/^VERSION = "\(.*\)"$$/\1/p' loader/version.py)
# What runs on devices, and the resource API.
SHIPPED := loader resource_api deploy wsgi.py gunicorn.conf.py

.DEFAULT_GOAL := help
.PHONY: help test lint demo bench soak image lock clean

help: ## Show these commands
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile

# Two at a time, since most tests wait for a server most of the time; a file's tests stay together and share theirs. What
# fails is tried once more, and named as RERUN: a machine that others use, too, stops for seconds now and then.
test: lint ## Check the code, then run all tests
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile --reruns 1 -r aR

lint: $(READY) ## Check style, formatting, types, and for known weaknesses
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive $(SHIPPED)
	$(VENV)/bin/python -m tools.audit

demo: $(READY) ## Show the whole flow on this machine (ONCE=1: end after one run)
	ONCE=$(ONCE) $(VENV)/bin/python -m tools.demo

bench: $(READY) ## Measure the loader beside its peers
	$(VENV)/bin/python -m benchmarks

soak: $(READY) ## Use the loader for SOAK_MINUTES (20) while what it needs comes and goes
	$(VENV)/bin/python -m tools.soak

image: ## Build the container image azaion-loader, tagged with its version and `latest`
	docker build --build-arg VERSION=$(VERSION) --tag azaion-loader:$(VERSION) --tag azaion-loader:latest .

lock: $(READY) ## Write requirements.lock anew: the newest packages that requirements.txt allows, with their hashes
	$(VENV)/bin/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --python-platform linux \
		--no-annotate --custom-compile-command "make lock" --output-file requirements.lock requirements.txt

clean: ## Remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -r {} +

$(READY): requirements.txt requirements.lock requirements-dev.txt tools/setup.sh
	tools/setup.sh $(PYTHON) $(VENV)
	@touch $@
