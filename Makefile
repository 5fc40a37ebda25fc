# whisper-train. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
run := .venv/bin/whisper-train
machine := $(if $(MACHINE),--machine $(MACHINE))
named = $(if $(EXP),,$(error EXP: name a job, as in: make $@ EXP=demo))

.PHONY: help train check jobs tensorboard setup dev test lint lock

help: ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

train: setup ## train a job, or go on with it: EXP=demo [MACHINE=cpu] [ARGS='--set training.max_steps=100']
	@$(named)$(run) train $(EXP) $(machine) $(ARGS)

check: setup ## print a job as it would run: EXP=german
	@$(named)$(run) check $(EXP) $(machine) $(ARGS)

jobs: ## list the jobs there are
	@for job in jobs/*.yaml; do printf '  %-18s %s\n' "$$(basename "$$job" .yaml)" "$$(sed -n '1s/^# //p' "$$job")"; done

tensorboard: setup ## show the curves of all runs on http://127.0.0.1:6006
	@set -a; if [ -f .env ]; then . ./.env; fi; \
	exec .venv/bin/tensorboard --logdir "$${LOG_DIR:-$${BASE_DIR:-.}/logs}" --host 127.0.0.1 --port "$${TENSORBOARD_PORT:-6006}"

setup:
	@requirements/install.sh run

dev:
	@requirements/install.sh dev

test: dev ## run the tests
	@.venv/bin/pytest $(ARGS)

lint: dev ## format check, lint, types, shell scripts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/shellcheck requirements/install.sh .ci/run

lock: ## resolve the locked requirement files anew (needs uv)
	@for kind in run:all dev:dev; do \
	  file=requirements/$${kind%%:*}.txt; comment=$$(sed -n 1p $$file); \
	  uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra $${kind##*:} \
	    pyproject.toml --constraint requirements/torch.txt --constraint $$file $(ARGS) \
	  | grep -vE '^(torch|triton|nvidia-|cuda-)' > $$file.new && { echo "$$comment"; cat $$file.new; } > $$file; rm $$file.new; done
