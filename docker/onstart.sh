#!/bin/bash
# What a rented Vast.ai instance runs at each start in SSH and Jupyter mode, where the image's entrypoint is replaced.
# It writes what shells need to /etc/environment, starts the job of the environment apart from any session, and returns.
#   EXP             the job: a name in jobs/ of the image, or the name of the one in JOB_000, JOB_001 …
#   MACHINE, ARGS   machine profile, further arguments of `whisper-train train`
#   STOP_WHEN_DONE  1: stop the instance when the job has ended
# ETC_ENVIRONMENT and CONTAINER_LOG are other places for what is written, for tests.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH=/opt/venv/bin:$PATH
export CACHE_DIR=${CACHE_DIR:-/cache} MODEL_DIR=${MODEL_DIR:-/models} LOG_DIR=${LOG_DIR:-/logs}
etc_environment=${ETC_ENVIRONMENT:-/etc/environment}
container_log=${CONTAINER_LOG:-/proc/1/fd/1}

# Shells over SSH do not see the container's environment. No secrets: the file can be read by everyone.
shown=(PATH CACHE_DIR MODEL_DIR LOG_DIR HF_HOME EXP MACHINE ARGS STOP_WHEN_DONE CONTAINER_ID)
ours=$(IFS='|' && echo "${shown[*]}")
others=$(grep -vE "^($ours)=" "$etc_environment" 2>/dev/null || true)
{
  [ -z "$others" ] || echo "$others"
  for name in "${shown[@]}"; do
    [ -z "${!name:-}" ] || echo "$name=\"${!name}\""
  done
} >"$etc_environment.new"
cat "$etc_environment.new" >"$etc_environment"
rm "$etc_environment.new"

if [ -z "${EXP:-}" ]; then
  echo "onstart: EXP is not set, so no job is started; in a shell: whisper-train train <job>"
  exit 0
fi
name=$(basename "$EXP" .yaml)
if grep -qE '^  "status": "(done|gate missed)"' "$MODEL_DIR/$name/run.json" 2>/dev/null &&
  { [ "${STOP_WHEN_DONE:-}" != 1 ] || [ -e "$LOG_DIR/.stopped-itself" ]; }; then # else it is stopped once more
  echo "onstart: $name has ended; its results are in $MODEL_DIR/$name"
  exit 0
fi
job=$EXP
if [ -n "${JOB_000:-}" ]; then
  job=$(PYTHONPATH=$root python3 -m whisper_train.cloud.parcel)
elif [ -f "$CACHE_DIR/vast-jobs/$name.yaml" ]; then # in a shell, which has no JOB_000: as it was started before
  job=$CACHE_DIR/vast-jobs/$name.yaml
fi
mkdir -p "$LOG_DIR/$name"
log=$LOG_DIR/$name/console.log
exec 9>"$LOG_DIR/$name/.onstart.lock" # held by the job's shell below, for as long as the job runs
if ! flock --nonblock 9; then
  echo "onstart: $name is running already; its output is in $log"
  exit 0
fi
{ : >>"$container_log"; } 2>/dev/null || container_log=/dev/null
read -r -a arguments <<<"${ARGS:-}"
export log container_log
cd "$root"
# shellcheck disable=SC2016 # expanded by the inner shell
setsid --fork bash -c '
  set -o pipefail
  "$@" 9>&- 2>&1 | tee --append "$log" 9>&- >>"$container_log"
  echo "onstart: ended with status $?" >>"$log"
' onstart "$root/docker/entrypoint.sh" train "$job" "${arguments[@]}" </dev/null >/dev/null 2>&1
echo "onstart: $name is started, or goes on where it stopped; its output is in $log"
