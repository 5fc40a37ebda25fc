#!/bin/bash
# Jobs in containers: job.sh train|qat|benchmark-model|eval|chain JOB [whisper-train's options], ps, logs JOB, stop JOB.
# DETACH=1 leaves a job to itself. Closing the terminal leaves it running too; Ctrl-C stops it after a checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/host.sh
STOP_SECONDS=600 # for the last checkpoint; compose.yaml and whisper_train/running.py say the same
CHECKOUT_LABEL=com.docker.compose.project.working_dir

container_name() { say "$PROJECT-$(basename "$1" .yaml | tr -c 'a-zA-Z0-9_.\n-' '-')"; }
inspect() { docker container inspect --format "$2" "$1" 2>/dev/null || true; }
state() { inspect "$1" '{{.State.Status}}'; }

# Containers of another checkout may bear the same name; they are not ours to stop or to remove.
need_own() {
  local checkout
  checkout=$(inspect "$1" "{{index .Config.Labels \"$CHECKOUT_LABEL\"}}")
  [ -z "$checkout" ] || [ "$checkout" = "$PWD" ] ||
    fail "$1: is a container of the checkout in $checkout; give this one names of its own: COMPOSE_PROJECT_NAME=… in .env"
}

# The option that shows a container a folder outside of the checkout, at its own path.
volume() { case $1/ in "$PWD"/*) ;; *) printf -- '--volume=%s:%s:ro\n' "$1" "$1" ;; esac; }

# What a job reads outside of the checkout: recordings, other jobs, its own file, and models that an eval names.
visible_folders() {
  local job=$1 folder option=''
  shift
  for folder; do
    case $option in --model | --baseline) folder=$option=$folder ;; esac
    option=$folder
    case $folder in --model=* | --baseline=*) folder=$(absolute "${folder#*=}") ;; *) continue ;; esac
    [ -d "$folder" ] || continue # a hub id, or a path inside the container
    volume "$(cd "$folder" && pwd)"
    volume "$(cd "$folder" && pwd -P)" # where a link leads to
  done
  for folder in "${DATA_DIR:-}" "${CONFIG_DIR:-}"; do
    [ -n "$folder" ] || continue
    [ -d "$folder" ] || fail "$folder: no such folder; DATA_DIR and CONFIG_DIR in .env name folders that jobs read"
    volume "$folder"
  done
  if [ -n "${MIRROR_DIR:-}" ]; then
    [ -d "$MIRROR_DIR" ] || fail "MIRROR_DIR: $MIRROR_DIR: no such folder; mount it, or leave it empty in .env"
    printf -- '--volume=%s:%s\n' "$(absolute "$MIRROR_DIR")" "$(absolute "$MIRROR_DIR")"
  fi
  for folder in "${CONFIG_DIR:-jobs}/$job.yaml" "${CONFIG_DIR:-jobs}/$job"; do
    if [ -f "$folder" ]; then return; fi
  done
  [ -f "$job" ] || fail "$job: no such job in ${CONFIG_DIR:-jobs}/ (make jobs lists them), and no such file"
  volume "$(cd "$(dirname "$job")" && pwd)"
}

# Refuses a machine profile that is not there, before an image is built for it.
check_machine() {
  local folder=${CONFIG_DIR:-jobs}/machines name=${MACHINE:-} option='' word file known
  for word; do
    case $option/$word in --machine/*) name=$word ;; */--machine=*) name=${word#*=} ;; esac
    option=$word
  done
  for file in "$name" "$folder/$name" "$folder/$name.yaml"; do
    if [ -z "$name" ] || [ -f "$file" ]; then return; fi
  done
  known=$(for file in "$folder"/*.yaml; do basename "$file" .yaml; done | tr '\n' ' ')
  fail "MACHINE: $name: no such profile in $folder; there are: $known"
}

# Builds the image from this checkout, or has the one that IMAGE_TAG names.
ensure_image() {
  local service=$1 image=$2 quiet=
  if [ -n "${IMAGE_TAG:-}" ]; then
    has_image "$image" || docker pull "$image" ||
      fail "$image: is not here and cannot be pulled; check REGISTRY and IMAGE_TAG in .env, or leave IMAGE_TAG empty to build it"
    return
  fi
  find_build_settings local
  if is_current "$image"; then return; fi
  if has_image "$image"; then
    say "building $image again: sources have changed"
    quiet=--quiet
  else
    say "building $image: the first time it takes several minutes, and gigabytes"
  fi
  compose build $quiet "$service" ||
    fail "$image: the build failed; its message is above (RUN=local does without, IMAGE_TAG=… runs a pushed image)"
  remove_replaced "$service"
}

start() {
  local verb=$1 service=$1 job=$2 name image volumes said
  case $verb in
    chain) service=train ;;
    benchmark-model) service=qat ;;
  esac
  shift 2
  check_engine
  name=$(container_name "$job")
  volumes=$(visible_folders "$job" "$@" | sort -u) # the engine refuses a folder that is named twice
  check_machine "$@"
  check_gpus
  make_directories
  need_own "$name"
  case $(state "$name") in
    '' | exited | created | dead) ;;
    *) fail "$job: is running already as container $(inspect "$name" '{{slice .Id 0 12}}') ($name); follow it: make logs EXP=$job; end it: make stop EXP=$job" ;;
  esac
  image=$(image_name "$service" "${IMAGE_TAG:-local}")
  ensure_image "$service" "$image"
  WHISPER_TRAIN_DIGEST=$(docker image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$image")
  export WHISPER_TRAIN_DIGEST=${WHISPER_TRAIN_DIGEST##*@} WHISPER_TRAIN_CONTAINER=$name
  WHISPER_TRAIN_JOB=$(basename "$job" .yaml)
  # shellcheck disable=SC2086 # one volume a line; the line to paste at the end needs the same ones
  WHISPER_TRAIN_VOLUMES=$(IFS=$'\n' && [ -z "$volumes" ] || printf '%q ' $volumes)
  export WHISPER_TRAIN_JOB WHISPER_TRAIN_VOLUMES
  if [ -n "$(state "$name")" ]; then docker rm "$name" >/dev/null; fi # it has ended; its run folder has all that matters
  # shellcheck disable=SC2086 # one volume a line
  said=$(IFS=$'\n' && compose run --detach --name "$name" --label "whisper-train.job=$WHISPER_TRAIN_JOB" \
    ${volumes:+$volumes} "$service" "$verb" "$job" "$@" 2>&1) ||
    fail "$job: the container did not start (make doctor checks this machine): $said"
  say "running in container $name of $image; inside, /models is $MODEL_DIR"
  if [ "${DETACH:-}" = 1 ]; then
    tell_early_end "$name"
    say "follow it: make logs EXP=$job; end it after a checkpoint: make stop EXP=$job"
  else
    follow "$name"
  fi
}

# Waits until the job has been checked and begins: a mistake in it is told now, not found out hours later.
tell_early_end() {
  for _ in $(seq 120); do
    [ "$(state "$1")" = running ] || break
    if [ "${NODE_RANK:-0}" != 0 ] || has_begun "$1"; then return; fi
    sleep 0.5
  done
  if [ "$(state "$1")" = running ]; then return; fi
  docker logs "$1"
  end "$1"
}

has_begun() { [[ $(docker logs "$1" 2>&1) == *'follow it with'* ]]; }

# Leaves with the container's status. One that was refused before its job began has nothing to show that is not said here.
end() {
  local status
  status=$(docker wait "$1")
  if [ "$status" = 2 ] && ! has_begun "$1"; then docker rm "$1" >/dev/null; fi
  exit "$status"
}

# Shows what the container says until it ends, and ends with its status. Ctrl-C asks it to save and stop.
follow() {
  local name=$1 logs
  set -m # own process groups: Ctrl-C reaches this script alone
  trap 'say "saving, then stopping (up to $STOP_SECONDS s)"; docker stop -t "$STOP_SECONDS" "$name" >/dev/null &' INT TERM
  docker logs --follow "$name" &
  logs=$!
  trap 'kill "$logs"; exit 129' HUP
  while kill -0 "$logs" 2>/dev/null; do wait "$logs" || true; done
  end "$name"
}

# What the container said last, less the command to paste that a run ends with: whisper_train/run_log.py, HEAR.
last_line() {
  docker logs --tail 20 "$1" 2>&1 | { grep -v -e '^ ' -e '^$' -e '^next, hear' || true; } | tail -n 1
}

list() {
  check_engine
  local format='{{.Label "whisper-train.job"}}\t{{.ID}}\t{{.Status}}\t{{.Image}}' job id rest
  printf '%-20s %-14s %-34s %-40s %s\n' JOB CONTAINER STATUS IMAGE 'LAST LINE'
  docker ps --all --filter label=whisper-train.job --filter "label=$CHECKOUT_LABEL=$PWD" --format "$format" |
    while IFS=$'\t' read -r job id rest; do
      printf '%-20s %-14s %-34s %-40s %s\n' "$job" "$id" "${rest%%$'\t'*}" "${rest#*$'\t'}" "$(last_line "$id")"
    done
}

need_container() {
  local name
  check_engine
  name=$(container_name "$1")
  need_own "$name"
  [ -n "$(state "$name")" ] ||
    fail "$1: no container of this job (make ps lists them); without containers: RUN=local; to start one: make train EXP=$1"
}

show_logs() {
  need_container "$1"
  exec docker logs --follow "$(container_name "$1")"
}

stop() {
  local name status running
  need_container "$1"
  name=$(container_name "$1")
  running=$(state "$name")
  if [ "$running" = running ]; then
    say "$1: saving, then stopping (up to $STOP_SECONDS s)"
    docker stop -t "$STOP_SECONDS" "$name" >/dev/null
  fi
  status=$(inspect "$name" '{{.State.ExitCode}}')
  case $running/$status in
    running/143) say "$1: stopped; the same command goes on from where it was" ;;
    running/137) say "$1: was killed before it could save; the same command goes on from its newest checkpoint" ;;
    *) say "$1: had ended already, with status $status; make logs EXP=$1 shows how" ;;
  esac
}

find_settings
command=${1:-} job=${2:-}
case $command in
  ps) list ;;
  train | qat | benchmark-model | eval | chain | logs | stop)
    [ -n "$job" ] || fail "EXP: name a job, as in: make $command EXP=demo"
    case $command in
      logs) show_logs "$job" ;;
      stop) stop "$job" ;;
      *) shift && start "$command" "$@" ;;
    esac ;;
  *) fail "job.sh: $command: no such command; there are train, qat, benchmark-model, eval, chain, ps, logs, stop" ;;
esac
