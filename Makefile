# Everything runs in .venv, which is made on first use and updated when the requirements change.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.requirements-installed
VERSION = $(shell sed -n 's/^VERSION = "\(.*\)"$$/\1/p' loader/version.py)
# What runs on devices, and the resource API.
SHIPPED := loader resource_api deploy wsgi.py gunicorn.conf.py
CHECKS := check-style check-format check-types check-security check-page check-packages
# Three processes on two cores, because most tests wait for a server most of the time. The tests of a file run in one
# process, because they share servers.
# Each process reads the compiled tests of earlier runs, because it would take 11 s of its time to compile them again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(VENV)/bin/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help test test-long test-fast test-newer arm64 lint $(CHECKS) openapi pictures demo bench soak image image-api lock clean

help: ## Show these commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /make \1\t/p' Makefile | expand --tabs=22

test: lint ## Run all checks of `make lint`, then the tests
	$(PYTEST) -m "not long"

test-long: $(READY) ## Run the rest of the tests: faults of engines, kills in every state, the container, hostile clients, fuzzing, long use
	$(PYTEST) -m long

test-fast: $(READY) ## Run the tests that need no browser, engine or container, without the long ones
	$(PYTEST) -m "not heavy"

test-newer: $(READY) ## Run those of `make test-fast` under Python 3.13 and 3.14, with the programs of their Debian
	$(VENV)/bin/python -m tools.newer_python

arm64: $(READY) ## Run tests of models and archives under Python for ARM64, which qemu emulates
	$(VENV)/bin/python -m tools.arm64

lint: $(READY) ## Run the checks that follow here, all of them even if one fails
	@$(MAKE) --no-print-directory --keep-going $(CHECKS)

check-style: $(READY) ## Check the style of the Python code
	$(VENV)/bin/ruff check

check-format: $(READY) ## Check the format of the Python code
	$(VENV)/bin/ruff format --check

check-types: $(READY) ## Check the types of the Python code
	$(VENV)/bin/mypy

check-security: $(READY) ## Check the code that ships for known weaknesses
	$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive $(SHIPPED)

check-page: $(READY) ## Check the JavaScript of the page
	$(VENV)/bin/biome lint --error-on-warnings

check-packages: $(READY) ## Ask whether a pinned package has a known vulnerability
	$(VENV)/bin/python -m tools.audit

openapi: $(READY) ## Write loader/web/openapi.json and the tables of error codes in docs/
	$(VENV)/bin/python -m tools.openapi

PICTURES := build/screenshots

pictures: $(READY) ## Make the pictures of the page in docs/images again
	CI_OUTPUT=$(CURDIR)/build $(PYTEST) tests/browser/test_looks.py --numprocesses=0 --basetemp=/tmp/azaion-pictures
	cp $(PICTURES)/running-light-1280.png docs/images/page-1280.png
	cp $(PICTURES)/running-light-360.png docs/images/page-360.png
	cp $(PICTURES)/listed-dark-768.png docs/images/page-768.png

demo: $(READY) ## Show the whole flow on this machine (ONCE=1: end after one run)
	ONCE=$(ONCE) $(VENV)/bin/python -m tools.demo

bench: $(READY) ## Measure the loader beside its peers
	$(VENV)/bin/python -m benchmarks

soak: $(READY) ## Use the loader for SOAK_MINUTES (20) while everything around it fails and recovers
	$(VENV)/bin/python -m tools.soak

image: ## Build the container image azaion-loader, tagged with its version and `latest`
	docker build --build-arg VERSION=$(VERSION) --tag azaion-loader:$(VERSION) --tag azaion-loader:latest .

image-api: ## Build the container image azaion-resource-api, tagged with its version and `latest`
	docker build --file deploy/Dockerfile-api --build-arg VERSION=$(VERSION) \
		--tag azaion-resource-api:$(VERSION) --tag azaion-resource-api:latest .

lock: $(READY) ## Update requirements.lock: the newest packages that requirements.txt allows, with hashes
	$(VENV)/bin/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --python-platform linux \
		--no-annotate --custom-compile-command "make lock" --output-file requirements.lock requirements.txt

clean: ## Remove .venv, builds and all caches
	rm -rf $(VENV) build azaion_loader.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -r {} +

$(READY): requirements.txt requirements.lock requirements-dev.txt tools/setup.sh
	tools/setup.sh $(PYTHON) $(VENV)
	@touch $@
