#!/bin/sh
# The command `whisper-train` inside an image, in shells too that have none of the image's environment.
export PYTHONPATH=/opt/whisper-train PYTHONSAFEPATH=1
export CACHE_DIR="${CACHE_DIR:-/cache}" MODEL_DIR="${MODEL_DIR:-/models}" LOG_DIR="${LOG_DIR:-/logs}"
exec /opt/venv/bin/python -m whisper_train "$@"
