# Two commands on a fresh machine: `make run` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := $(VENV)/stamps
PYTEST_WORKERS ?= 2
TUNE_DATA ?= examples/helpdesk/tickets.csv
TUNE_FLAGS ?=
SERVE_FLAGS ?=
PAGE := src/empu/server/web/index.html
# Whether Node.js is new enough to build the web chat.
NODE_WILL_DO = command -v npm >/dev/null && node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'

.PHONY: run web page wheel chat test lint types style unit format docs lock sanitize bench clean help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run: $(STAMPS)/run page  ## install, build, and fine-tune a model on example support tickets, start the web chat
	@$(BIN)/empu pull default
	@$(BIN)/empu pull multilingual-e5-small || echo "The text encoder could not be fetched; the specialist is tuned without text embeddings."
	@$(BIN)/empu tune $(TUNE_DATA) --name helpdesk --licence CC0-1.0 $(TUNE_FLAGS)
	@$(BIN)/empu docs add examples/helpdesk/handbook --to handbook --licence CC0-1.0
	@echo; echo "A question to the handbook: When is a refund paid?"
	@$(BIN)/empu ask handbook "When is a refund paid?"
	@echo; echo "The command is $(BIN)/empu; after '. $(BIN)/activate' it is empu. Starting the server; Ctrl-C ends it."
	@$(BIN)/empu serve helpdesk default $(SERVE_FLAGS) --unattended "The meter shows three dots and nothing else since the update."

web: $(PAGE)  ## build the web chat (needs Node.js 20.19 or newer with npm)

page:  # like web, but only a message where Node.js is missing
	@if $(NODE_WILL_DO); then \
	  $(MAKE) --no-print-directory web || echo "The web chat was not built; the APIs work without it."; \
	else echo "The web chat needs Node.js 20.19 or newer with npm: install it and run make web."; fi

wheel: $(STAMPS)/run web  ## build dist/empu-*.whl, with the web chat in it
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

chat: $(STAMPS)/run  ## chat with the default model in the terminal
	@$(BIN)/empu pull default && $(BIN)/empu chat default

test: lint types style unit  ## everything that CI runs

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMPS)/dev
	$(BIN)/mypy

style: page  # types and format of the web chat
	@if $(NODE_WILL_DO); then cd web && npm run --silent check; fi

unit: $(STAMPS)/dev page
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

format: $(STAMPS)/dev page  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if $(NODE_WILL_DO); then cd web && npm run --silent format; fi

docs: $(STAMPS)/dev  ## generate docs/CLI.md
	$(BIN)/python -m empu.cli.docs docs/CLI.md

lock: $(STAMPS)/dev  ## update the pinned and hashed requirements (needs uv)
	requirements/lock.sh

sanitize:  ## build the native tests with the address, undefined-behaviour and thread sanitizers and run them (10 minutes)
	@for kind in address thread; do \
	  cmake -S native -B build/sanitize-$$kind -DEMPU_TESTS=ON -DEMPU_SANITIZE=$$kind >/dev/null && \
	  cmake --build build/sanitize-$$kind --parallel 2 >/dev/null && \
	  echo "$$kind sanitizer:" && build/sanitize-$$kind/empu_native_tests 20 20000 20 || exit 1; \
	done

bench: $(STAMPS)/run  ## speed on this machine
	$(BIN)/empu bench

clean:  ## remove everything that make created
	rm -rf $(VENV) build dist web/node_modules src/empu/server/web .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Installed once, and again when a requirements file changes; otherwise no target needs the network.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Empu needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 run"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }

$(STAMPS)/run: $(VENV)/bin/python requirements/run.txt requirements/torch.txt pyproject.toml
	@echo "Installing Empu into $(VENV) (once) ..." >&2
	@$(PIP) install --require-hashes --no-deps -r requirements/run.txt
	@$(PIP) install -r requirements/torch.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: $(STAMPS)/run requirements/dev.txt requirements/oracles.txt
	@echo "Installing the test tools into $(VENV) (once) ..." >&2
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	@$(PIP) install --require-hashes --no-deps --no-build-isolation -r requirements/oracles.txt
	@mkdir -p $(STAMPS) && touch $@

# The libraries of the web chat are installed once, and again when package-lock.json changes.
web/node_modules/.package-lock.json: web/package-lock.json
	@$(NODE_WILL_DO) || { echo "The page needs Node.js 20.19 or newer with npm; see https://nodejs.org"; exit 1; }
	@echo "Installing the page's libraries into web/node_modules (once) ..." >&2
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(PAGE): web/node_modules/.package-lock.json $(shell find web -name node_modules -prune -o -type f -print)
	@cd web && npm run --silent build
