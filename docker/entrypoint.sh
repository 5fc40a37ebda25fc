#!/bin/bash
# What an image runs: whisper-train with the arguments given. With STOP_WHEN_DONE=1, on Vast.ai, the rented instance
# is stopped when the command has ended, however it ended, unless the instance itself is being stopped.
set -u
if [ "${STOP_WHEN_DONE:-}" != 1 ]; then
  exec whisper-train "$@"
fi
stopping=
whisper-train "$@" &
job=$!
trap 'stopping=1; kill -TERM "$job"' TERM INT
wait "$job"
status=$?
while kill -0 "$job" 2>/dev/null; do # a signal ends `wait` before the job, which saves first
  wait "$job"
  status=$?
done
[ -n "$stopping" ] || /opt/venv/bin/python -m whisper_train.cloud.stop_self
exit "$status"
