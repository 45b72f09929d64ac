# Everything begins here. `make demo` shows Manifold, `make test` tests it; both work from a fresh clone.

PYTHON ?= python3
CARGO ?= cargo

.PHONY: python setup build models demo up test test-mms test-mxnet test-torchserve test-backends compose-test bench bench-router lint fmt doc ci clean

# In sh, because Python itself cannot say that it is missing or too old.
python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "Python ($(PYTHON)) is missing: install 3.8 or newer, and pip (Debian, Ubuntu: apt install python3 python3-pip; Fedora: dnf install python3 python3-pip)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 8))' || { echo "$$($(PYTHON) --version 2>&1) is too old: install Python 3.8 or newer, and name it: make PYTHON=python3.11" >&2; exit 1; }

setup: python ## checks the machine, gets LibTorch
	@$(PYTHON) scripts/setup.py

build: setup ## the release programs
	$(CARGO) build --release --locked --workspace --bins

models: build ## the demo models, as archives in .manifold/models
	@$(PYTHON) scripts/setup.py weights
	target/release/manifold-zoo

demo: models ## a local endpoint, walked through and stopped
	target/release/manifold demo

up: models ## the same local endpoint, left running until Ctrl-C
	target/release/manifold up

test: python ## every test that this machine can run
	@$(PYTHON) scripts/run_tests.py

test-mms: build ## the same handlers in Multi Model Server and here; needs Java 17, Python 3.11, PyPI
	@$(PYTHON) tests/mms/run.py

test-mxnet: build ## the same networks in MXNet and here; needs Python 3.11, PyPI
	@$(PYTHON) tests/mxnet/run.py

test-torchserve: build ## TorchServe's image classifier in TorchServe and here; needs Java 17, Python 3.11, PyPI (3 GB)
	@$(PYTHON) tests/torchserve/run.py

test-backends: build ## Multi Model Server and TorchServe, driven by the agent; needs Java 17, Python 3.11, PyPI
	@$(PYTHON) tests/backends/run.py

compose-test: python ## what `docker compose up` starts; the images stay
	@$(PYTHON) scripts/run_tests.py --containers

bench: models ## the figures of docs/benchmarks.md; needs wrk
	$(CARGO) build --release --locked --workspace --example bare_loop
	$(PYTHON) bench/run.py

bench-router: setup ## the router beside HAProxy; needs wrk and haproxy 2.6
	@$(PYTHON) bench/haproxy.py --check
	$(CARGO) build --release --locked --workspace --bins
	$(CARGO) build --release --locked --workspace --examples
	$(PYTHON) bench/haproxy.py

lint: setup ## clippy; in release, to share what the build compiled
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

fmt: ## formats the code
	$(CARGO) fmt --all

doc: setup ## the code's documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps

ci: ## what a merge has to pass
	.ci/run

clean: ## what was built; what was fetched stays
	$(CARGO) clean
