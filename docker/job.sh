#!/bin/bash
# Jobs in containers: job.sh train JOB [whisper-train's options], ps, logs JOB, stop JOB.
# DETACH=1 leaves a job to itself. Closing the terminal leaves it running too; Ctrl-C stops it after a checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/host.sh
STOP_SECONDS=600 # for the last checkpoint; compose.yaml says the same

container_name() { say "$PROJECT-$(basename "$1" .yaml | tr -c 'a-zA-Z0-9_.\n-' '-')"; }
state() { docker container inspect --format '{{.State.Status}}' "$1" 2>/dev/null || true; }

# Where a job file is visible inside: the checkout is, at its own path; other folders are mounted at theirs.
visible_folders() {
  local job=$1 folder
  for folder in "${DATA_DIR:-}" "${CONFIG_DIR:-}"; do
    [ -n "$folder" ] || continue
    folder=$(absolute "$folder")
    [ -d "$folder" ] || fail "$folder: no such folder; DATA_DIR and CONFIG_DIR in .env name folders that jobs read"
    printf -- '--volume=%s:%s:ro\n' "$folder" "$folder"
  done
  if [ ! -f "$(absolute "${CONFIG_DIR:-jobs}")/$job.yaml" ]; then
    [ -f "$job" ] || fail "$job: no such job in ${CONFIG_DIR:-jobs}/ (make jobs lists them), and no such file"
    folder=$(cd "$(dirname "$job")" && pwd)
    case $folder/ in "$PWD"/*) ;; *) printf -- '--volume=%s:%s:ro\n' "$folder" "$folder" ;; esac
  fi
}

# Builds the image from this checkout, or has the one that IMAGE_TAG names.
ensure_image() {
  local service=$1 image=$2
  if [ -n "${IMAGE_TAG:-}" ]; then
    has_image "$image" || docker pull "$image" ||
      fail "$image: is not here and cannot be pulled; check REGISTRY and IMAGE_TAG in .env, or leave IMAGE_TAG empty to build it"
    return
  fi
  find_build_settings local
  say "image: $image, built from this checkout"
  if has_image "$image"; then
    compose build --quiet "$service" || fail "$image: the build failed; its message is above"
  else
    say "this is the first time: several minutes, and gigabytes"
    compose build "$service" || fail "$image: the build failed; its message is above"
  fi
  remove_replaced "$service"
}

start() {
  local service=$1 job=$2 name image volumes said
  shift 2
  check_engine
  name=$(container_name "$job")
  volumes=$(visible_folders "$job")
  check_gpus
  make_directories
  case $(state "$name") in
    '') ;;
    exited | created | dead) docker rm "$name" >/dev/null ;; # its run folder has all that matters
    *) fail "$job: is running already as container $(docker container inspect --format '{{slice .Id 0 12}}' "$name") ($name); follow it: make logs EXP=$job; end it: make stop EXP=$job" ;;
  esac
  image=$(image_name "$service" "${IMAGE_TAG:-local}")
  ensure_image "$service" "$image"
  WHISPER_TRAIN_DIGEST=$(docker image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$image")
  export WHISPER_TRAIN_DIGEST=${WHISPER_TRAIN_DIGEST##*@}
  # shellcheck disable=SC2086 # one volume a line
  said=$(IFS=$'\n' && compose run --detach --name "$name" --label "whisper-train.job=$(basename "$job" .yaml)" ${volumes:+$volumes} \
    "$service" "$service" "$job" "$@" 2>&1) ||
    fail "$job: the container did not start (make doctor checks this machine): $said"
  say "running in container $name of $image; inside, /models is $MODEL_DIR"
  if [ -n "${DETACH:-}" ]; then
    tell_early_end "$name"
    say "follow it: make logs EXP=$job; end it after a checkpoint: make stop EXP=$job"
  else
    follow "$name"
  fi
}

# A mistake in a job shows within seconds: nobody should find it out hours later.
tell_early_end() {
  local status
  for _ in 1 2 3 4 5 6; do
    sleep 0.5
    [ "$(state "$1")" = running ] || break
  done
  [ "$(state "$1")" != running ] || return 0
  docker logs "$1"
  status=$(docker wait "$1")
  [ "$status" = 0 ] || exit "$status"
}

# Shows what the container says until it ends, and ends with its status. Ctrl-C asks it to save and stop.
follow() {
  local name=$1 logs status
  set -m # own process groups: Ctrl-C reaches this script alone
  trap 'say "saving, then stopping (up to $STOP_SECONDS s)"; docker stop --time "$STOP_SECONDS" "$name" >/dev/null &' INT TERM
  docker logs --follow "$name" &
  logs=$!
  trap 'kill "$logs"; exit 129' HUP
  while kill -0 "$logs" 2>/dev/null; do wait "$logs" || true; done
  status=$(docker wait "$name")
  docker rm "$name" >/dev/null
  exit "$status"
}

list() {
  check_engine
  local format='{{.Label "whisper-train.job"}}\t{{.ID}}\t{{.Status}}\t{{.Image}}' job id rest
  printf '%-20s %-14s %-28s %-40s %s\n' JOB CONTAINER STATUS IMAGE 'LAST LINE'
  docker ps --all --filter label=whisper-train.job --filter "label=com.docker.compose.project=$PROJECT" --format "$format" |
    while IFS=$'\t' read -r job id rest; do
      printf '%-20s %-14s %-28s %-40s %s\n' "$job" "$id" "${rest%%$'\t'*}" "${rest#*$'\t'}" "$(docker logs --tail 1 "$id" 2>&1)"
    done
}

need_container() {
  check_engine
  [ -n "$(state "$(container_name "$1")")" ] || fail "$1: no container of this job; make ps lists them, make train EXP=$1 starts one"
}

show_logs() {
  need_container "$1"
  exec docker logs --follow "$(container_name "$1")"
}

stop() {
  local name status
  need_container "$1"
  name=$(container_name "$1")
  if [ "$(state "$name")" = running ]; then
    say "$1: saving, then stopping (up to $STOP_SECONDS s)"
    docker stop --time "$STOP_SECONDS" "$name" >/dev/null
  fi
  status=$(docker container inspect --format '{{.State.ExitCode}}' "$name")
  case $status in
    143) say "$1: stopped after saving; make train EXP=$1 goes on from there" ;;
    137) say "$1: was killed before it could save; make train EXP=$1 goes on from its newest checkpoint" ;;
    *) say "$1: had ended already, with status $status; make logs EXP=$1 shows how" ;;
  esac
}

find_settings
command=${1:-} job=${2:-}
case $command in
  ps) list ;;
  train | eval | qat | logs | stop)
    [ -n "$job" ] || fail "EXP: name a job, as in: make $command EXP=demo"
    case $command in
      logs) show_logs "$job" ;;
      stop) stop "$job" ;;
      *) shift && start "$command" "$@" ;;
    esac ;;
  *) fail "job.sh: $command: no such command; there are train, ps, logs, stop" ;;
esac
