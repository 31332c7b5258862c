# Fresh machine: python3 (3.11 or 3.12) and make are enough.
PYTHON ?= python3
VENV   ?= .venv
UV      = $(VENV)/bin/uv
UV_VERSION = 0.13.9
export UV_PYTHON_DOWNLOADS = never
export UV_NO_CONFIG = 1
COMPILE = $(UV) pip compile -q pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock"

EXPERIMENT ?= parameters/quickstart.yaml

.PHONY: setup quickstart test lab explorer lock lock-check clean
setup: $(VENV)/.synced

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,13))' || { echo "need Python 3.11 or 3.12: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check "uv==$(UV_VERSION)"

$(VENV)/.synced: requirements.lock pyproject.toml | $(UV)
	$(UV) pip sync -q --compile-bytecode --python $(VENV)/bin/python --require-hashes requirements.lock
	$(UV) pip install -q --python $(VENV)/bin/python --no-deps -e .
	touch $@

quickstart: setup
	$(VENV)/bin/thesis run parameters/quickstart.yaml

test: setup
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lab: setup
	$(VENV)/bin/jupyter lab --ServerApp.ip=127.0.0.1 --LabApp.extension_manager=readonly --LabApp.default_url=/lab/tree/notebooks

explorer: setup                   # notebook 03 as a page, on localhost with a token; EXPERIMENT=parameters/NAME.yaml
	mkdir -p runs
	$(VENV)/bin/papermill --prepare-only notebooks/03_augmentation_inspection.ipynb runs/.explorer.ipynb -p experiment $(EXPERIMENT)
	$(VENV)/bin/voila --Voila.ip=127.0.0.1 --Voila.auto_token=True runs/.explorer.ipynb

lock: | $(UV)                     # the one step that chooses versions
	$(COMPILE) -o requirements.lock

lock-check: | $(UV)               # fails when pyproject.toml and the lock disagree (keeps pinned versions)
	cp requirements.lock .lock.check
	$(COMPILE) -o .lock.check
	diff -u requirements.lock .lock.check; s=$$?; rm -f .lock.check; exit $$s

clean:
	rm -rf $(VENV)
