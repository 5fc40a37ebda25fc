# shellcheck shell=bash
# What the scripts here share: settings, folders, cards and images of this host. Sourced, with the checkout as the
# working directory. Kept to what bash 3.2 and macOS have.

MIN_FREE_KIB=1048576 # 1 GiB; whisper_train/paths.py says the same
CPU_INDEX=https://download.pytorch.org/whl/cpu

say() { printf '%s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# Fills what the shell left unset from .env, by the rules of python-dotenv, which whisper-train reads it with.
read_env() {
  local line key value filled=' '
  [ -f .env ] || return 0
  [ -r .env ] || fail ".env: cannot be read by $(id -un); give it to this user"
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line#$'\xef\xbb\xbf'} line=${line%$'\r'} # what editors on Windows add
    [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=(.*)$ ]] || continue
    key=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
    case $filled in *" $key "*) ;; *) [ -z "${!key+set}" ] || continue ;; esac # the last line for a key counts
    value=$(read_value "$value") || continue
    if [ -n "$value" ]; then export "$key=$value"; else unset "$key"; fi
    filled="$filled$key "
  done <.env
}

# What follows the = of a line, without quotes and comment, and with ${NAME} and ${NAME:-default} filled in.
read_value() {
  local value=$1 after='' name
  value=${value#"${value%%[![:space:]]*}"}
  case $value in
    \"*\"*) value=${value#\"} value=${value%%\"*} ;;
    \'*\'*) value=${value#\'} value=${value%%\'*} ;;
    \"* | \'*) return 1 ;; # a quote without its end
    *)
      [ "$value" = "$1" ] || value=" $value" # a comment may follow the = and a space
      value=${value%%[[:space:]]#*} value=${value%"${value##*[![:space:]]}"} value=${value#" "}
      ;;
  esac
  while [[ $value =~ ^(.*)\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}(.*)$ ]]; do
    name=${BASH_REMATCH[2]} value=${BASH_REMATCH[1]}
    after=${!name-${BASH_REMATCH[4]}}${BASH_REMATCH[5]}$after
  done
  say "$value$after"
}

absolute() {
  case $1 in
    /*) say "$1" ;;
    \~ | \~/*) say "$HOME${1#\~}" ;;
    .) say "$PWD" ;;
    *) say "$PWD/${1#./}" ;;
  esac
}

# Exports the three folders as absolute paths, and the ids that what is written there shall belong to.
find_settings() {
  read_env
  local base name
  base=$(absolute "${BASE_DIR:-.}")
  CACHE_DIR=$(absolute "${CACHE_DIR:-$base/cache}")
  MODEL_DIR=$(absolute "${MODEL_DIR:-$base/models}")
  LOG_DIR=$(absolute "${LOG_DIR:-$base/logs}")
  export CACHE_DIR MODEL_DIR LOG_DIR
  HOST_UID=${HOST_UID:-$(id -u)} HOST_GID=${HOST_GID:-$(id -g)}
  export HOST_UID HOST_GID
  for name in CONFIG_DIR DATA_DIR; do
    if [ -n "${!name:-}" ]; then export "$name=$(absolute "${!name}")"; fi
  done
  PROJECT=${COMPOSE_PROJECT_NAME:-whisper-train}
  case ${NNODES:=1} in *[!0-9]*) fail "NNODES: $NNODES: must be a whole number" ;; esac
}

# KiB free where the folder is, or would be.
free_kib() {
  local path=$1 free
  while [ ! -d "$path" ]; do path=$(dirname "$path"); done
  { read -r _ && read -r _ _ _ free _; } < <(df -Pk "$path")
  say "$free"
}

# Creates the three folders as the caller, since the engine would create them as root.
make_directories() {
  local name path free
  for name in CACHE_DIR MODEL_DIR LOG_DIR; do
    path=${!name}
    mkdir -p "$path" 2>/dev/null || fail "$name: $path: cannot be created; name another folder in .env"
    [ -w "$path" ] && [ -x "$path" ] ||
      fail "$name: $path: cannot be written to by $(id -un); change its owner (sudo chown -R $(id -u):$(id -g) $path) or name another folder in .env"
    free=$(free_kib "$path")
    [ "$free" -ge "$MIN_FREE_KIB" ] ||
      fail "$name: $path: the disk is full ($((free / 1024)) MiB free); make room, or name another folder in .env"
  done
}

has_gpu() { nvidia-smi -L >/dev/null 2>&1; }

# Refuses GPUS that are not there; GPUS=0,1 picks cards, empty or all takes every one.
check_gpus() {
  local wanted=${GPUS:-all} card known
  [ "$wanted" = all ] && return
  has_gpu || fail "GPUS: $wanted: this machine shows no NVIDIA GPU; see make doctor, or leave GPUS empty to run on the processor"
  known=$(nvidia-smi --query-gpu=index --format=csv,noheader | tr '\n' ' ')
  for card in ${wanted//,/ }; do
    case " $known" in
      *" $card "*) ;;
      *) fail "GPUS: $card: this machine has no such card; there are: $known" ;;
    esac
  done
}

# docker where an engine with compose answers, else local.
choose_run() {
  if docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then say docker; else say local; fi
}

check_engine() {
  command -v docker >/dev/null || fail "docker: not found; install Docker Engine, or run without containers: RUN=local"
  docker compose version >/dev/null 2>&1 || fail "docker compose: not found; install the Compose plugin, or use RUN=local"
  local security
  security=$(docker info --format '{{.SecurityOptions}}' 2>/dev/null) || fail "docker: no engine answers $(id -un); start it, join its group (sudo usermod -aG docker $(id -un), then log in again), or use RUN=local"
  case $security in
    *rootless*) HOST_UID=0 HOST_GID=0 ;; # root inside is the caller outside
  esac
}

# docker compose with the parts that this host needs.
compose() {
  local files=(--file compose.yaml)
  if has_gpu; then files+=(--file docker/compose/gpu.yaml); fi
  if [ "$NNODES" -gt 1 ]; then files+=(--file docker/compose/hosts.yaml); fi
  docker compose --project-name "$PROJECT" "${files[@]}" --file <(groups_override) "$@"
}

# Hands in the caller's other groups: folders may be writable, and recordings readable, by one of them alone.
groups_override() {
  local groups
  groups=$(id -G | tr ' ' ',')
  if [ "$HOST_UID" != "$(id -u)" ]; then groups=$HOST_GID; fi # another user's ids were asked for
  printf 'services: {train: &groups {group_add: ["%s"]}, qat: *groups, eval: *groups}\n' "${groups//,/\",\"}"
}

version() { sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml; }
commit() { git describe --always --exclude='*' --abbrev=40 --dirty=+ 2>/dev/null || say unknown; }

# What images are called besides their target: version and commit, or what TAG or IMAGE_TAG says.
release_tag() {
  local short
  short=$(git rev-parse --short=10 HEAD 2>/dev/null) || short=unknown
  say "${TAG:-${IMAGE_TAG:-$(version)-$short}}"
}

image_name() { say "${REGISTRY:+$REGISTRY/}whisper-train:$1-$2"; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Removes what a build of ours has just replaced, and nothing else: images without a name that carry our title.
remove_replaced() {
  docker image prune --force --filter "label=org.opencontainers.image.title=whisper-train $1" >/dev/null
}

# Exports what the build needs. For this machine alone, without a GPU, the CPU's torch saves gigabytes, and so does
# compiling on the Dockerfile's own stage `base` instead of the CUDA compiler's image.
find_build_settings() {
  VERSION=$(version) COMMIT=$(commit)
  if [ -z "${TORCH_INDEX:-}" ] && [ "$1" = local ] && ! has_gpu; then
    export TORCH_INDEX=$CPU_INDEX DEVEL_IMAGE=${DEVEL_IMAGE:-${BASE_IMAGE:-base}}
  fi
  SOURCES=$({
    echo "$COMMIT ${BASE_IMAGE:-} ${DEVEL_IMAGE:-} ${TORCH_INDEX:-}"
    find docker requirements whisper_train -type f ! -path '*/__pycache__/*' | LC_ALL=C sort | xargs cat
  } | cksum | cut -d ' ' -f 1)
  export VERSION COMMIT SOURCES
}

# Whether the image was built from just these sources: then nothing is built, which works offline too. Jobs do not count:
# here they are read from the checkout.
is_current() {
  [ "$(docker image inspect --format '{{index .Config.Labels "whisper-train.sources"}}' "$1" 2>/dev/null)" = "$SOURCES" ]
}
