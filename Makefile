# make demo, make test: each creates .venv when it is missing
PY := .venv/bin/python

.PHONY: demo test lint venv

venv:
	@tools/setup_venv.sh

demo: venv
	@$(PY) tools/demo.py

test: venv
	@$(PY) -m pytest -n 2 --dist loadfile

lint: venv
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
