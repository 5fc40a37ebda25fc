#!/bin/sh
# Resolves the locked requirement files anew, each with all its dependencies and the digests of their files. Needs uv;
# what is given goes to it: lock.sh --upgrade-package numpy
set -eu
cd "$(dirname "$0")/.."

# resolve FILE SOURCE …: keeps FILE's first line and, where nothing speaks against it, its versions. torch and what only
# its wheels need are left out: which build of it is wanted, install.sh and the images decide.
resolve() {
  file=requirements/$1.txt
  comment=$(sed -n 1p "$file")
  shift
  uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --generate-hashes \
    --constraint requirements/torch.txt --constraint "$file" "$@" >"$file.new"
  {
    echo "$comment"
    awk '/^[^ #]/ { skip = /^(torch|triton|nvidia-|cuda-)/ } !skip' "$file.new"
  } >"$file"
  rm "$file.new"
}

resolve run --extra all pyproject.toml "$@"
resolve eval --extra demo pyproject.toml "$@"
resolve qat --extra all --extra qat pyproject.toml "$@"
resolve dev --extra dev pyproject.toml "$@"
resolve tensorboard --constraint requirements/run.txt requirements/tensorboard.in "$@"
resolve gpu --no-deps requirements/gpu.in "$@"
resolve vast requirements/vast.in "$@"
