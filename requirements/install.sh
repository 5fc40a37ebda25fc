#!/bin/sh
# Makes .venv and installs the locked packages into it: install.sh run|qat|dev
# install.sh vast makes .venv-vast: Vast.ai's client pins packages that training has in other versions.
# Does nothing when that is what it holds already. PYTHON and TORCH_INDEX choose interpreter and package index.
set -eu
cd "$(dirname "$0")/.."
kind=$1
venv=.venv
[ "$kind" != vast ] || venv=.venv-vast
stamp=$venv/.installed-$kind
cpu_index=https://download.pytorch.org/whl/cpu

find_python() {
  for candidate in ${PYTHON:-python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or 3.12 found; install one, or name it: make PYTHON=/path/to/python3.12 …" >&2
  exit 2
}

# PyPI's torch for Linux brings gigabytes of CUDA libraries. Without a GPU the CPU build does, where it can be had.
find_torch_index() {
  if [ -n "${TORCH_INDEX:-}" ]; then
    echo "$TORCH_INDEX"
  elif ! command -v nvidia-smi >/dev/null 2>&1 &&
    "$venv/bin/python" -c "import urllib.request as r; r.urlopen('$cpu_index/torch/', timeout=5)" 2>/dev/null; then
    echo "$cpu_index"
  fi
}

sum=$(cat pyproject.toml requirements/*.txt "$0" | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
  exit 0
fi
python=$(find_python)
if [ ! -x "$venv/bin/pip" ]; then
  if ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    echo "error: $python cannot make virtual environments; on Debian and Ubuntu: sudo apt install python3-venv" >&2
    exit 2
  fi
fi
if [ "$kind" = vast ]; then
  echo "setting up $venv, for Vast.ai (once; half a minute)"
else
  echo "setting up $venv (once; a few minutes)"
  torch_index=$(find_torch_index)
  "$venv/bin/pip" install --quiet --disable-pip-version-check ${torch_index:+--index-url "$torch_index"} \
    --requirement requirements/torch.txt
fi
# DeepSpeed compiles its operators when they are first used, not here. PIP_USE_PEP517: sources are built apart, as pip
# does by itself from 23.1 on.
DS_BUILD_OPS=0 PIP_USE_PEP517=1 "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps \
  --requirement "requirements/$kind.txt"
if [ "$kind" != vast ] && command -v nvidia-smi >/dev/null 2>&1; then
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements/gpu.txt
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable .
echo "$sum" >"$stamp"
