#!/bin/sh
# The supply chain: the licences of what is installed, then known vulnerabilities of what is locked. Needs the network
# for the second; ends with 1 when one is known, or when a package could not be looked up.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-audit
tool=pip-audit==2.10.1

.venv/bin/python requirements/licences.py

if [ ! -x "$venv/bin/pip-audit" ]; then
  .venv/bin/python -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$tool"
fi
status=0
for file in run eval qat dev tensorboard vast torch gpu; do
  echo "requirements/$file.txt:"
  # --strict: what cannot be looked up is no package without vulnerabilities.
  "$venv/bin/pip-audit" --strict --disable-pip --no-deps --progress-spinner off -r "requirements/$file.txt" || status=1
done
if [ "$status" != 0 ]; then
  echo "error: audit: a vulnerability is known, or a package could not be looked up; see above" >&2
fi
exit "$status"
