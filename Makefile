# A specialist from a data file: make specialist DATA=data/brand-voice.jsonl
# Every target sets up first what it needs; with nothing to do that takes a moment.

PYTHON = python3
.DEFAULT_GOAL = help
.PHONY: help setup setup-tests specialist check test test-gpu try-ollama ollama-stop clean

# Said to make, not taken from the environment: WSL has a NAME there, the machine's own.
$(foreach name,DATA NAME BASE DEVICE ARGS VERSION,$(if $(filter environment,$(origin $(name))),$(eval $(name) =)))
export DATA NAME BASE DEVICE VERSION

SETUP = command -v $(PYTHON) >/dev/null || { echo "Error: no Python: sudo apt install python3 python3-venv" >&2; exit 1; }; \
	$(PYTHON) -m pipeline.setup $${DEVICE:+--device "$$DEVICE"}

help:
	@echo "make specialist DATA=FILE   train a specialist on FILE and register it in Ollama"
	@echo "     NAME=name              its name (else the file's), as in: ollama run name"
	@echo "     BASE=base              what it is tuned from (else what its Modelfile says)"
	@echo "     DEVICE=cpu             leave the GPU alone"
	@echo "     ARGS='--set …'         anything else that 'specialist make' takes"
	@echo "make setup                  install everything (the targets here do it themselves)"
	@echo "make check                  lint, format and types"
	@echo "make test                   check, unit tests, a browser, and the smoke test in a real Ollama"
	@echo "make test-gpu               the tests that need an NVIDIA GPU"
	@echo "make try-ollama VERSION=…   build that Ollama and run the tests that need one on it"
	@echo "make ollama-stop            stop the Ollama that we started, and no other"
	@echo "make clean                  remove what was made in this folder"

setup:
	@$(SETUP)

setup-tests:
	@$(SETUP) --tests

specialist:
	@test -n "$$DATA" || { echo "Error: which data? make specialist DATA=data/brand-voice.jsonl" >&2; exit 1; }
	@test -e "$$DATA" || { echo "Error: there is no file $$DATA" >&2; \
		echo "  Give the file of conversations: make specialist DATA=FILE" >&2; exit 1; }
	@file="$${DATA##*/}"; $(SETUP) --name "$${NAME:-$${file%.*}}" --data "$$DATA"
	@file="$${DATA##*/}"; .venv/bin/specialist make "$${NAME:-$${file%.*}}" --data "$$DATA" \
		$${BASE:+--base "$$BASE"} $${DEVICE:+--device "$$DEVICE"} $(ARGS)

check: setup-tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: check
	.venv/bin/python -m pytest -q -n auto --dist worksteal -m "not smoke and not gpu and not browser"
	.venv/bin/python -m pytest -q -m "smoke or browser"

test-gpu: setup-tests
	@if .venv/bin/python -c "from pipeline.tools import gpu; raise SystemExit(not gpu.present())"; \
	then .venv/bin/python -m pytest -q -m gpu; \
	else echo "There is no NVIDIA GPU here: the tests that need one were not run."; fi

# docs/ollama.md tells what is tried, and what to do where something has changed.
try-ollama:
	@test -n "$$VERSION" || { echo "Error: which version? make try-ollama VERSION=0.34.4" >&2; exit 1; }
	@$(SETUP) --tests --ollama "$$VERSION"
	SPECIALIST_TEST_OLLAMA="$$VERSION" .venv/bin/python -m pytest -q -m smoke \
		tests/test_ollama.py tests/test_release.py tests/smoke/test_brand_voice.py

ollama-stop:
	@$(PYTHON) -c "from pipeline.tools import server; print(server.stop())"

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache unsloth_compiled_cache *.egg-info
	@$(PYTHON) -c "from pipeline.common import places; print('Kept:', places.cache_home(), 'and', places.home())"
