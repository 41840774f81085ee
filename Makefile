VENV := .venv
PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The locks are whole. With --no-deps nothing is looked for beside them: up to 23.2, pip takes the newest release for a
# dependency with an extra, and then finds no hash of it.

run: $(VENV)/.installed  ## set everything up and serve on http://127.0.0.1:8000
	@exec $(VENV)/bin/python -m service

test: $(VENV)/.installed  ## the suite, on a PostgreSQL of its own
	@$(VENV)/bin/python -m pytest

test-slow: $(VENV)/.installed  ## what takes long: fuzzing, a second PostgreSQL, the browser
	@$(VENV)/bin/python -m pytest -m slow

bench: $(VENV)/.installed benchmarks/.venv/.installed  ## beside other stacks, each on a core of its own: 20 minutes
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

.PHONY: run test test-slow bench check lock
