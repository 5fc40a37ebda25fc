#!/bin/sh
# The command `whisper-train` inside an image.
exec /opt/venv/bin/python -m whisper_train "$@"
