#!/bin/sh
# Serves the curves under /logs as the owner of the checkout (of a file of it, at /checkout), and gives the folder to that owner when the engine has just
# made it: else it would belong to root, and no job of theirs could write to it.
set -eu
owner=$(stat --format %u:%g /checkout)
if [ "$(stat --format %u /logs)" = 0 ] && [ -z "$(ls -A /logs)" ]; then
  chown "$owner" /logs
fi
exec setpriv --reuid "${owner%:*}" --regid "${owner#*:}" --clear-groups \
  tensorboard --logdir /logs --host 0.0.0.0 --port 6006 --reload_interval 5 "$@"
