# whisper-train. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
run := .venv/bin/whisper-train
machine := $(if $(MACHINE),--machine $(MACHINE))
named = $(if $(EXP),,$(error EXP: name a job, as in: make $@ EXP=demo))

# Vast.ai: what the commands take, from IMAGE, MODE, MACHINE, DISK, BID, ID, YES, STOP_WHEN_DONE and ARGS
vast := .venv-vast/bin/whisper-train vast
image = --image "$$(docker/images.sh name $(or $(IMAGE),train))" $(if $(MODE),--mode $(MODE)) \
  $(if $(filter 1,$(STOP_WHEN_DONE)),--stop-when-done)
disk := $(if $(DISK),--disk $(DISK))
id := $(if $(ID),--id $(ID))
yes := $(if $(filter 1,$(YES)),--yes)

.PHONY: help train check jobs tensorboard setup dev test lint lock
.PHONY: vast-setup vast-template vast-offers vast-launch vast-logs vast-fetch vast-destroy

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

vast-template: vast-setup ## Vast.ai: create or update the template: [IMAGE=train|qat|eval] [MODE=ssh|entrypoint] [EXP=demo]
	@$(vast) template $(or $(IMAGE),train) $(image) $(disk) $(if $(EXP),--job $(EXP)) $(yes) $(ARGS)

vast-offers: vast-setup ## Vast.ai: machines for a job, with prices: EXP=demo [MACHINE=h200] [DISK=200] [BID=1]
	@$(named)$(vast) offers $(EXP) $(machine) $(disk) $(if $(BID),--bid) $(ARGS)

vast-launch: vast-setup ## Vast.ai: rent and train: EXP=demo OFFER=… [MACHINE=] [DISK=] [BID=0.2] [STOP_WHEN_DONE=1] [YES=1]
	@$(named)$(if $(OFFER),,$(error OFFER: name one from make vast-offers EXP=$(EXP)))\
	$(vast) launch $(EXP) --offer $(OFFER) $(machine) $(disk) $(image) $(if $(BID),--bid $(BID)) $(yes) $(ARGS)

vast-logs: vast-setup ## Vast.ai: what a job's instance says and costs: EXP=demo [ID=…]
	@$(named)$(vast) logs $(EXP) $(id) $(ARGS)

vast-fetch: vast-setup ## Vast.ai: bring a job's results and logs back: EXP=demo [ID=…]
	@$(named)$(vast) fetch $(EXP) $(id) $(ARGS)

vast-destroy: vast-setup ## Vast.ai: destroy a job's instance, which ends its costs: EXP=demo [ID=…] [YES=1]
	@$(named)$(vast) destroy $(EXP) $(id) $(yes) $(ARGS)

setup:
	@requirements/install.sh run

vast-setup:
	@requirements/install.sh vast

dev:
	@requirements/install.sh dev

test: dev ## run the tests
	@.venv/bin/pytest $(ARGS)

lint: dev ## format check, lint, types, shell scripts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/shellcheck requirements/install.sh docker/onstart.sh .ci/run

lock: ## resolve the locked requirement files anew (needs uv)
	@for kind in run:all dev:dev; do \
	  file=requirements/$${kind%%:*}.txt; comment=$$(sed -n 1p $$file); \
	  uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra $${kind##*:} \
	    pyproject.toml --constraint requirements/torch.txt --constraint $$file $(ARGS) \
	  | grep -vE '^(torch|triton|nvidia-|cuda-)' > $$file.new && { echo "$$comment"; cat $$file.new; } > $$file; rm $$file.new; done
	@file=requirements/vast.txt; comment=$$(sed -n 1p $$file); \
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate requirements/vast.in \
	  --constraint $$file $(ARGS) > $$file.new && { echo "$$comment"; cat $$file.new; } > $$file; rm $$file.new
