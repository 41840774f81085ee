VENV := .venv
PYTHON ?= python3
NODE := benchmarks/peers/node
HAS_NODE := command -v npm > /dev/null && \
	node -e '[major, minor] = process.versions.node.split("."); process.exit(major * 100 + +minor < 2019 ? 1 : 0)'
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The locks are whole. With --no-deps nothing is looked for beside them: up to 23.2, pip takes the newest release for a
# dependency with an extra, and then finds no hash of it.

run: $(VENV)/.installed  ## set everything up and serve on http://127.0.0.1:8000
	@exec $(VENV)/bin/python -m service

test: $(VENV)/.installed  ## the suite, on a PostgreSQL of its own
	@$(VENV)/bin/python -m pytest

test-slow: $(VENV)/.installed  ## what takes long: fuzzing, a second PostgreSQL, the browser
	@$(VENV)/bin/python -m pytest -m slow

bench: $(VENV)/.installed peers  ## beside other stacks, each on a core of its own: 25 minutes
	@$(VENV)/bin/python -m benchmarks.compare

check: $(VENV)/.installed  ## format, lint, types, imports
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache

lock: $(VENV)/.installed  ## pin the dependencies anew
	@$(VENV)/bin/python -m pip install --quiet uv
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 pyproject.toml -o requirements.txt
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 --all-extras pyproject.toml -o requirements-dev.txt
	@$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 benchmarks/requirements.in -o benchmarks/requirements.txt
	@if $(HAS_NODE); then npm update --prefix $(NODE) --package-lock-only --ignore-scripts --loglevel=error > /dev/null; fi

peers: benchmarks/.venv/.installed  ## the other stacks; those on Node.js only where it is
	@if $(HAS_NODE); then $(MAKE) --silent $(NODE)/node_modules/.installed; fi

# Prisma needs no engine to generate a client, yet downloads one unless it is told that there is one.
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

$(VENV)/.installed: requirements-dev.txt
	@echo "Installing the dependencies into $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed.")'
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-dev.txt
	@touch $@

.PHONY: run test test-slow bench peers check lock
