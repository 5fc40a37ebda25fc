#!/bin/bash
# What an image runs: whisper-train with the arguments given. With STOP_WHEN_DONE=1, on Vast.ai, the rented instance
# is stopped when the command has ended, however it ended, unless the instance itself is being stopped.
set -u

# A job that vast-launch sent along lies in the environment, in parts: whisper_train/cloud/parcel.py.
run() {
  if [ -n "${JOB_000:-}" ]; then
    PYTHONPATH=/opt/whisper-train /opt/venv/bin/python -m whisper_train.cloud.parcel >/dev/null || exit 2
  fi
  exec whisper-train "$@"
}

[ "${STOP_WHEN_DONE:-}" = 1 ] || run "$@"
stopping='' job=''
trap 'stopping=1; [ -z "$job" ] || kill -TERM "$job"' TERM INT
run "$@" &
job=$!
wait "$job"
status=$?
while kill -0 "$job" 2>/dev/null; do # a signal ends `wait` before the job, which saves first
  wait "$job"
  status=$?
done
if [ -z "$stopping" ] && PYTHONPATH=/opt/whisper-train /opt/venv/bin/python -m whisper_train.cloud.stop_self; then
  touch "$LOG_DIR/.stopped-itself" # the next start is somebody who wants to look: docker/onstart.sh
fi
exit "$status"
