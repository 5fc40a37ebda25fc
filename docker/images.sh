#!/bin/bash
# The images as a whole: images.sh build|push|pull [TARGET …], and name TARGET, what an image is called when pushed.
# REGISTRY says where to; TAG (or IMAGE_TAG) is by default version and commit. DIRTY=1 allows changes not committed.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/host.sh

need_registry() {
  [ -n "${REGISTRY:-}" ] || fail "REGISTRY: is not set; say where the images go, as in: make $1 REGISTRY=docker.io/<you>"
}

# A tag stands for one state of the sources; changes that are in no commit would pass for that state.
need_clean() {
  local changes
  [ "${DIRTY:-}" != 1 ] || return 0
  changes=$(git status --porcelain) || fail "git cannot tell the state of this tree, and images are called after it; push anyway with DIRTY=1"
  [ -z "$changes" ] ||
    fail "the working tree has changes that no commit holds (git status); commit them, or push anyway with DIRTY=1"
}

build() {
  local target
  find_build_settings release
  for target in "$@"; do
    say "building $(image_name "$target" "$tag")"
    IMAGE_TAG=$tag compose build "$target" || fail "$target: the build failed; its message is above"
    remove_replaced "$target"
  done
}

push() {
  local target
  need_registry push
  need_clean
  build "$@"
  for target in "$@"; do
    docker push "$(image_name "$target" "$tag")" || fail "$(image_name "$target" "$tag"): cannot be pushed; is REGISTRY right, and are you logged in (docker login ${REGISTRY%%/*})?"
  done
  say "run them anywhere: make train EXP=… REGISTRY=$REGISTRY IMAGE_TAG=$tag"
}

pull() {
  local target
  need_registry pull
  for target in "$@"; do
    docker pull "$(image_name "$target" "$tag")" || fail "$(image_name "$target" "$tag"): cannot be pulled; check REGISTRY and TAG"
  done
}

find_settings
command=${1:-}
shift || true
tag=$(release_tag)
[ $# -gt 0 ] || set -- eval train qat
for target in "$@"; do
  case $target in eval | train | qat) ;; *) fail "IMAGE: $target: no such image; there are eval, train, qat" ;; esac
done
case $command in
  name) image_name "$1" "$tag" ;;
  build) check_engine && build "$@" ;;
  push) check_engine && push "$@" ;;
  pull) check_engine && pull "$@" ;;
  *) fail "images.sh: $command: no such command; there are build, push, pull, name" ;;
esac
