# Bulkhead's commands. `make help` lists them; README.md tells the story.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The moment this was called: `make demo` prints how long it took.
BEGAN := $(shell date +%s.%N 2>/dev/null)
# The newest Python that is 3.11 or later.
ifndef PYTHON
PYTHON := $(shell for name in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$name && break; done)
endif
BIN := .venv/bin
CODE := manage.py conftest.py hosting tenants frontend worker deploy benchmarks
# What the tools are told of the settings; the demonstration and the tests make their own.
TOOLS := ENVIRONMENT=development SECRET_KEY=tools DATABASE_URL=postgresql:///none

.PHONY: help
help:
	@echo 'Bulkhead: containers, each alone in its own Xen virtual machine'
	@awk 'BEGIN { FS = ":.*## " } \
		/^# .* ----+$$/ { sub(/^# /, ""); sub(/ -+$$/, ""); printf "\n%s\n", $$0 } \
		/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# the two commands ---------------------------------------------------------------------------------------

.PHONY: demo
demo: .installed-local ## Run everything here, with a simulated pool; Ctrl-C stops it
	@DEMO_BEGAN=$(BEGAN) exec $(BIN)/python -m deploy.demo up

.PHONY: test
test: .installed-dev ## Everything that CI checks: format, lint, types, contracts, migrations, tests
	@$(MAKE) --keep-going format-check lint type contracts migrations-check unit

# demonstration ------------------------------------------------------------------------------------------

.PHONY: demo-xen
demo-xen: .installed-local ## The same on real Xen, in two emulated machines (root, Debian 12): its containers really run
	@test -e deploy/guest/out/version || $(MAKE) guest
	@$(MAKE) xen-lab
	@DEMO_BEGAN=$(BEGAN) exec $(BIN)/python -m deploy.demo --folder .demo-xen --xen .xenlab up

.PHONY: demo-reset
demo-reset: .installed-local ## Forget the demonstration's data and logins
	@$(BIN)/python -m deploy.demo reset

.PHONY: manage
manage: .installed-local ## Django's commands beside a running demonstration: make manage ARGS="shell"
	@$(BIN)/python -m deploy.demo manage $(ARGS)

# checks -------------------------------------------------------------------------------------------------

.PHONY: format-check
format-check: .installed-dev ## Is the code formatted?
	$(BIN)/ruff format --check --quiet --diff .

.PHONY: lint
lint: .installed-dev ## ruff's rules
	$(BIN)/ruff check --quiet .

.PHONY: type
type: .installed-dev ## mypy --strict
	$(BIN)/mypy

.PHONY: contracts
contracts: .installed-dev ## Who may import whom
	$(BIN)/lint-imports --no-logo

.PHONY: migrations-check
migrations-check: .installed-dev ## Do the migrations say what the models say?
	@$(TOOLS) $(BIN)/python -W ignore manage.py makemigrations --check --dry-run

.PHONY: unit
unit: unit-together unit-alone ## The tests alone: make unit ARGS="-k places hosting"

# Status 5: there was nothing to run among these.
.PHONY: unit-together
unit-together: .installed-dev # Files side by side, one for each processor
	$(BIN)/python -m pytest -m "not alone" -n auto --maxprocesses 8 --dist loadfile $(ARGS) || test $$? -eq 5

.PHONY: unit-alone
unit-alone: .installed-dev # One after the other
	$(BIN)/python -m pytest -m alone $(ARGS) || test $$? -eq 5

.PHONY: coverage
coverage: .installed-dev ## The tests, with what they do not reach
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

# changing things ----------------------------------------------------------------------------------------

.PHONY: format
format: .installed-dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

.PHONY: migrations
migrations: .installed-dev ## Write migrations for changed models
	@$(TOOLS) $(BIN)/python -W ignore manage.py makemigrations $(ARGS)

.PHONY: lock
lock: .installed-dev ## Renew requirements/*.txt from pyproject.toml
	$(BIN)/python deploy/local/lock.py $(ARGS)

# processes, against the servers that DATABASE_URL, REDIS_URL … name -------------------------------------

.PHONY: web
web: .installed-local ## The web process
	$(BIN)/python -m uvicorn hosting.asgi:application $(ARGS)

.PHONY: worker
worker: .installed-local ## A Celery worker for all queues
	$(BIN)/python -m celery --app hosting worker --queues tenant,recovery,images $(ARGS)

.PHONY: beat
beat: .installed-local ## Celery's clock
	$(BIN)/python -m celery --app hosting beat --pidfile= $(ARGS)

.PHONY: follow
follow: .installed-local ## The follower of one pool: make follow ARGS="<pool name>"
	$(BIN)/python manage.py follow $(ARGS)

.PHONY: relay
relay: .installed-local ## The console relay of one pool: make relay ARGS="<pool name>"
	$(BIN)/python manage.py relay $(ARGS)

.PHONY: lab
lab: .installed-local ## The simulated pool alone: make lab ARGS="--hosts 8 --state lab.state"
	$(BIN)/python -m deploy.lab $(ARGS)

.PHONY: xen-lab
xen-lab: .installed-local ## Two emulated machines with real Xen (root, Debian 12): make xen-lab ARGS="--hosts 3"
	@$(BIN)/python -m deploy.xenlab $(ARGS) up

.PHONY: xen-lab-down
xen-lab-down: .installed-local ## Stop these machines and leave nothing of them
	@$(BIN)/python -m deploy.xenlab $(ARGS) down

# guests -------------------------------------------------------------------------------------------------

.PHONY: guest
guest: .installed-dev ## What boots a container's VM, in deploy/guest/out: make guest ARGS="--out DIRECTORY"
	$(BIN)/python -m deploy.guest $(ARGS)

.PHONY: guest-kernel
guest-kernel: ## A small kernel for it, from Debian's source (ten minutes and more); then make guest
	deploy/guest/kernel/build.sh deploy/guest/out

# measures -----------------------------------------------------------------------------------------------

.PHONY: replay
replay: .installed-dev ## The lab against recordings of a real daemon: make replay ARGS="DIRECTORY"
	$(BIN)/python -m deploy.lab.replay $(ARGS)

.PHONY: endurance
endurance: .installed-dev ## Ten minutes of fifty clients calling the lab at random while things break
	SOAK_SECONDS=600 $(BIN)/python -m pytest -s deploy/lab/tests/test_soak.py $(ARGS)

.PHONY: benchmark
benchmark: .installed-dev ## How fast the lab answers, full or pools: make benchmark ARGS="--short"
	$(BIN)/python -m benchmarks.lab $(ARGS)

.PHONY: overhead
overhead: .installed-dev ## VM starts through us against a script's: make overhead ARGS="--short"
	$(BIN)/python -m benchmarks.overhead $(ARGS)

# installation -------------------------------------------------------------------------------------------

.PHONY: install
install: .installed-dev ## Make .venv with everything, from the lock
	@$(BIN)/pre-commit install >/dev/null 2>&1 || true

.PHONY: .installed-local .installed-dev
.installed-local .installed-dev: .python
	@$(PYTHON) deploy/local/install.py $(@:.installed-%=%)

.PHONY: .python
.python:
	@test -n "$(PYTHON)" || { \
		echo "Bulkhead needs Python 3.11 or later with venv, and found none. On Debian or Ubuntu:" >&2; \
		echo "    sudo apt-get install python3 python3-venv" >&2; \
		echo "elsewhere see https://www.python.org/downloads/" >&2; exit 1; }
