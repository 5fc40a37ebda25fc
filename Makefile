# whisper-train. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# In a container where an engine answers, else in .venv: RUN=docker or RUN=local says it.
RUN = $(shell . docker/host.sh && read_env && printf '%s' "$${RUN:-$$(choose_run)}")
local := .venv/bin/whisper-train
machine = $(if $(MACHINE),--machine $(MACHINE))
beside = $(if $(BESIDE),--beside $(BESIDE))
named = $(if $(EXP),,$(error EXP: name a job, as in: make $@ EXP=demo))
# $(call where,<in a container>,<in .venv>)
where = where=$(RUN); case $$where in docker) $(1) ;; local) requirements/install.sh run && $(2) ;; \
  *) echo "error: RUN: $$where: is docker or local" >&2; exit 2 ;; esac

# Vast.ai: what the commands take, from IMAGE, MODE, MACHINE, DISK, BID, ID, YES, STOP_WHEN_DONE and ARGS
vast := .venv-vast/bin/whisper-train vast
image = --image "$$(docker/images.sh name $(or $(IMAGE),train))" $(if $(MODE),--mode $(MODE)) \
  $(if $(filter 1,$(STOP_WHEN_DONE)),--stop-when-done)
disk = $(if $(DISK),--disk $(DISK))
id = $(if $(ID),--id $(ID))
yes = $(if $(filter 1,$(YES)),--yes)

.PHONY: help train qat benchmark-model eval chain lineage leaderboard check plan hear publish jobs ps logs stop tensorboard clean-cache doctor images push pull setup dev test torture fuzz audit benchmark lint lock
.PHONY: vast-setup vast-template vast-offers vast-launch vast-logs vast-fetch vast-destroy

help: ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

train: ## train a job, or go on with it: EXP=demo [MACHINE=cpu] [GPUS=0,1] [DETACH=1] [RUN=docker|local] [ARGS='--set …']
	@$(named)$(call where,docker/job.sh train "$(EXP)" $(machine) $(ARGS),$(local) train "$(EXP)" $(machine) $(if $(filter 1,$(DETACH)),--detach) $(ARGS))

qat: ## train a job for integers, evaluate, convert, verify, and measure it beside the float model: EXP=demo-qat-int4 [MACHINE=] [GPUS=0,1] [DETACH=1] [RUN=docker|local]
	@$(named)$(call where,docker/job.sh qat "$(EXP)" $(machine) $(ARGS),requirements/install.sh qat && $(local) qat "$(EXP)" $(machine) $(if $(filter 1,$(DETACH)),--detach) $(ARGS))

benchmark-model: ## measure a job's model in every runtime and precision, and say which to ship: EXP=demo-qat-int4 [RUN=docker|local] [ARGS='--max-samples 50']
	@$(named)$(call where,docker/job.sh benchmark-model "$(EXP)" $(machine) $(ARGS),requirements/install.sh qat && $(local) benchmark-model "$(EXP)" $(machine) $(ARGS))

eval: ## measure a model on the job's sets, again or for the first time: EXP=demo [MACHINE=] [DETACH=1] [ARGS='--model … --max-samples 200']
	@$(named)$(call where,docker/job.sh eval "$(EXP)" $(machine) $(ARGS),$(local) eval "$(EXP)" $(machine) $(if $(filter 1,$(DETACH)),--detach) $(ARGS))

chain: ## run a job after all it builds on, as far as missing or stale, with one table: EXP=demo-accents [BESIDE=demo-accents-plain] [DETACH=1] [ARGS=--plan]
	@$(named)$(call where,docker/job.sh chain "$(EXP)" $(machine) $(beside) $(ARGS),$(local) chain "$(EXP)" $(machine) $(beside) $(if $(filter 1,$(DETACH)),--detach) $(ARGS))

lineage: setup ## print where a job's model comes from: EXP=demo
	@$(named)$(local) lineage "$(EXP)" $(machine) $(ARGS)

leaderboard: setup ## put every evaluated run beside the others, on a page and as a table
	@$(local) leaderboard

check: setup ## print a job as it would run: EXP=german
	@$(named)$(local) check "$(EXP)" $(machine) $(ARGS)

plan: setup ## say what a job will take, in memory, disk, hours and money: EXP=german [MACHINE=2x16gb] [ARGS='--price 0.30']
	@$(named)$(local) plan "$(EXP)" $(machine) $(ARGS)

hear: setup ## write training clips before and after augmentation, and a page to listen to them: EXP=my-job
	@$(named)$(local) hear "$(EXP)" $(machine) $(ARGS)

publish: setup ## show what of a finished job would go to the hub, or upload it: EXP=demo [EXPORT=onnx-int8] [YES=1] [FORCE=1]
	@$(named)$(local) publish "$(EXP)" $(machine) $(yes) $(if $(EXPORT),--export $(EXPORT)) $(if $(filter 1,$(FORCE)),--force) $(ARGS)

jobs: ## list the jobs there are
	@for job in jobs/*.yaml; do printf '  %-18s %s\n' "$$(basename "$$job" .yaml)" "$$(sed -n '1s/^# //p' "$$job")"; done

ps: ## list the jobs that run or ran here
	@$(call where,docker/job.sh ps,$(local) ps)

logs: ## follow what a job says: EXP=demo
	@$(named)$(call where,docker/job.sh logs "$(EXP)",$(local) logs "$(EXP)")

stop: ## stop a job after a checkpoint; make train goes on with it: EXP=demo
	@$(named)$(call where,docker/job.sh stop "$(EXP)",$(local) stop "$(EXP)")

tensorboard: ## show the curves of all jobs on http://127.0.0.1:6006
	@$(call where,. docker/host.sh && find_settings && make_directories && exec docker compose up tensorboard,\
	  . docker/host.sh && find_settings && exec .venv/bin/tensorboard --logdir "$$LOG_DIR" --host "$${TENSORBOARD_HOST:-127.0.0.1}" --port "$${TENSORBOARD_PORT:-6006}")

clean-cache: setup ## show what of caches and old checkpoints can go, with sizes, and remove it once agreed to: [ALL=1] [YES=1]
	@$(local) clean-cache $(if $(filter 1,$(ALL)),--all) $(yes) $(ARGS)

doctor: ## look whether this machine can run jobs, and say what to mend
	@docker/doctor.sh

images: ## build the images eval, train and qat: [TAG=…]
	@docker/images.sh build $(IMAGE)

push: ## build and push the images: REGISTRY=docker.io/you [TAG=…] [IMAGE=train] [DIRTY=1]
	@docker/images.sh push $(IMAGE)

pull: ## pull the images: REGISTRY=docker.io/you [TAG=…] [IMAGE=train]
	@docker/images.sh pull $(IMAGE)

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
	@OMP_WAIT_POLICY=passive .venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

torture: dev ## break 50 sessions of a small job, each in another way, and compare its end with an unbroken run: [ARGS='--cycles 10 --seed 2']
	@.venv/bin/python -m tests.torture.torture $(ARGS)

fuzz: dev ## try random job files, manifests and recordings, an hour or less: [CASES=20000] [FUZZ_SEED=0]
	@FUZZ_SEED=$(or $(FUZZ_SEED),0) .venv/bin/python -m tests.fuzzing $(or $(CASES),20000)

audit: setup ## list the licences of what is installed, and look up known vulnerabilities of what is locked
	@requirements/audit.sh

benchmark: dev ## measure the stock recipe and ours, alternating, with a table and a picture: [ARGS='--updates 24']
	@.venv/bin/python -m benchmarks.training $(ARGS)

lint: dev ## format check, lint, types, shell scripts, Dockerfile
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/shellcheck --external-sources requirements/install.sh requirements/audit.sh .ci/run docker/*.sh
	.venv/bin/hadolint docker/Dockerfile

lock: ## resolve the locked requirement files anew (needs uv)
	@for kind in run:all eval:demo qat:all,qat dev:dev; do \
	  file=requirements/$${kind%%:*}.txt; comment=$$(sed -n 1p $$file); extras=$${kind##*:}; \
	  uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra $${extras//,/ --extra } \
	    pyproject.toml --constraint requirements/torch.txt --constraint $$file $(ARGS) \
	  | grep -vE '^(torch|triton|nvidia-|cuda-)' > $$file.new && { echo "$$comment"; cat $$file.new; } > $$file; rm $$file.new; done
	@file=requirements/vast.txt; comment=$$(sed -n 1p $$file); \
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate requirements/vast.in \
	  --constraint $$file $(ARGS) > $$file.new && { echo "$$comment"; cat $$file.new; } > $$file; rm $$file.new
