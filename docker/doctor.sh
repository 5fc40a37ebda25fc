#!/bin/bash
# Looks at this machine as a job would find it, and says for each thing what to do. Ends with 2 when a job could not run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. docker/host.sh

LEAST_DRIVER=580 # CUDA 13 of torch's wheels; docs.nvidia.com/cuda/cuda-toolkit-release-notes
LEAST_CAPABILITY=75 # 7.5, Turing: the oldest that CUDA 13 compiles for
LEAST_DISK_GIB=50 # large-v3, its checkpoints and a small data set
wrong=0

ok() { printf '  ok     %-12s %s\n' "$1" "$2"; }
note() { printf '  note   %-12s %s\n         %-12s -> %s\n' "$1" "$2" '' "$3"; }
bad() {
  printf '  WRONG  %-12s %s\n         %-12s -> %s\n' "$1" "$2" '' "$3"
  wrong=$((wrong + 1))
}

check_docker() {
  local engine
  if ! command -v docker >/dev/null; then
    note engine 'no docker command' 'install Docker Engine to run in containers; make runs in .venv without it'
    return
  fi
  if ! engine=$(docker version --format '{{.Server.Version}}' 2>/dev/null); then
    bad engine "no engine answers $(id -un)" "start it, and join its group: sudo usermod -aG docker $(id -un); RUN=local does without"
    return
  fi
  ok engine "Docker $engine"
  if docker compose version >/dev/null 2>&1; then
    ok compose "$(docker compose version --short)"
  else
    bad compose 'no Compose v2' 'install the package docker-compose-plugin'
  fi
  if docker buildx version >/dev/null 2>&1; then
    ok buildx "$(docker buildx version | sed 's/^[^ ]* *\(v\{0,1\}[0-9][^ ]*\).*/\1/')"
  else
    bad buildx 'no BuildKit builder' 'install the package docker-buildx-plugin'
  fi
  if has_gpu; then check_gpu_in_docker; fi
}

check_gpu_in_docker() {
  local image
  if docker info --format '{{json .Runtimes}} {{json .CDISpecDirs}}' 2>/dev/null | grep -q nvidia ||
    ls /etc/cdi/nvidia* /var/run/cdi/nvidia* >/dev/null 2>&1; then
    ok toolkit 'NVIDIA Container Toolkit'
  else
    bad toolkit 'the engine does not know the cards' 'install nvidia-container-toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker'
    return
  fi
  image=$(image_name train "${IMAGE_TAG:-local}")
  if ! has_image "$image"; then
    note 'cards inside' "not tried: $image is not built yet" 'make images, or start a job'
  elif docker run --rm --gpus all --entrypoint nvidia-smi "$image" -L >/dev/null 2>&1; then
    ok 'cards inside' "nvidia-smi answers in $image"
  else
    bad 'cards inside' "nvidia-smi does not answer in $image" 'see the message of: docker run --rm --gpus all --entrypoint nvidia-smi '"$image"
  fi
}

# What runs outside of containers: check, publish, leaderboard and lineage always, jobs where no engine answers.
check_python() {
  local candidate what=''
  for candidate in ${PYTHON:-python3.12 python3.11 python3}; do # as requirements/install.sh looks for it
    if what=$("$candidate" -c 'import ensurepip, sys, venv
print(sys.version.split()[0]) if (3, 11) <= sys.version_info[:2] <= (3, 12) else sys.exit(1)' 2>/dev/null); then
      ok Python "$what ($candidate)"
      return
    fi
  done
  what='no Python 3.11 or 3.12 that can make virtual environments'
  candidate='sudo apt install python3-venv, or PYTHON=/path/to/python3.12; make check, publish and leaderboard need it, and jobs without containers'
  case ${RUN:-$(choose_run)} in docker) note Python "$what" "$candidate" ;; *) bad Python "$what" "$candidate" ;; esac
}

check_cards() {
  local driver capability name memory index
  if ! command -v nvidia-smi >/dev/null; then
    note GPU 'none (no nvidia-smi)' 'jobs run on the processor, which does for the demo; else install the NVIDIA driver'
    check_wanted_cards
    return
  fi
  if ! has_gpu; then
    bad GPU 'nvidia-smi fails' 'its own message says why: nvidia-smi; often the driver was updated and the machine not restarted'
    return
  fi
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)
  if [ "${driver%%.*}" -ge "$LEAST_DRIVER" ] 2>/dev/null; then
    ok driver "$driver, enough for CUDA 13"
  else
    bad driver "$driver, too old for the image's CUDA 13" "install driver $LEAST_DRIVER or newer"
  fi
  while IFS=, read -r index name memory capability; do
    name=${name# } memory=${memory# } capability=${capability# }
    if [ "${capability/./}" -lt "$LEAST_CAPABILITY" ] 2>/dev/null; then
      bad "GPU $index" "$name, compute capability $capability" 'torch for CUDA 13 needs 7.5 or newer; leave it out with GPUS='
    elif [ "${capability/./}" -lt 80 ] 2>/dev/null; then
      note "GPU $index" "$name, $((memory / 1024)) GiB, no bf16 (compute capability $capability)" 'jobs run in fp16 there'
    else
      ok "GPU $index" "$name, $((memory / 1024)) GiB, compute capability $capability"
    fi
  done < <(nvidia-smi --query-gpu=index,name,memory.total,compute_cap --format=csv,noheader,nounits)
  check_wanted_cards
}

check_wanted_cards() {
  local message
  message=$(check_gpus 2>&1) || bad GPUS "${message#error: GPUS: }" 'name cards that are there, or leave GPUS empty'
}

check_directories() {
  local name path free
  for name in CACHE_DIR MODEL_DIR LOG_DIR; do
    path=${!name}
    if ! mkdir -p "$path" 2>/dev/null; then
      bad "$name" "$path cannot be created" 'name another folder in .env'
    elif [ ! -w "$path" ]; then
      bad "$name" "$path cannot be written to by $(id -un)" "sudo chown -R $(id -u):$(id -g) $path"
    else
      free=$(($(free_kib "$path") / 1048576))
      if [ "$free" -lt 1 ]; then
        bad "$name" "$path: the disk is full" 'make room, or name another folder in .env'
      elif [ "$free" -lt "$LEAST_DISK_GIB" ] && [ "$name" != LOG_DIR ]; then
        note "$name" "$path, $free GiB free" "large-v3 and its checkpoints take about $LEAST_DISK_GIB GiB"
      else
        ok "$name" "$path, $free GiB free"
      fi
    fi
  done
}

check_memory() {
  local ram shared
  [ -r /proc/meminfo ] || return 0
  read -r _ ram _ </proc/meminfo # MemTotal comes first, in KiB
  ram=$((ram / 1048576))
  { read -r _ && read -r _ shared _; } < <(df -Pk /dev/shm 2>/dev/null)
  shared=$((${shared:-0} / 1024))
  if [ "$ram" -lt 8 ]; then note memory "$ram GiB" 'enough for the demo; whisper-small wants 16'; else ok memory "$ram GiB"; fi
  if [ "$shared" -lt 1024 ]; then
    bad 'shared mem' "/dev/shm has $shared MiB; data-loading workers need it without containers" 'sudo mount -o remount,size=8G /dev/shm'
  else
    ok 'shared mem' "${SHM_SIZE:-8gb} in containers, $shared MiB outside"
  fi
}

check_secrets() {
  local answer
  if [ -f .env ] && [ -n "$(find .env -perm -004)" ] && grep -qE '^[[:space:]]*(export[[:space:]]+)?(HF_TOKEN|VAST_API_KEY)[[:space:]]*=.' .env; then
    bad .env 'holds a secret that every user of this machine can read' 'chmod 600 .env'
  fi
  if [ -z "${HF_TOKEN:-}" ]; then
    note HF_TOKEN 'not set' 'only gated data sets and push_to_hub need it: https://huggingface.co/settings/tokens'
  elif ! command -v curl >/dev/null; then
    note HF_TOKEN 'set, not tried (no curl)' 'install curl to try it'
  else
    # The token goes in by standard input: arguments are visible to every user.
    answer=$(printf 'header = "Authorization: Bearer %s"\n' "$HF_TOKEN" |
      curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' --config - "${HF_ENDPOINT:-https://huggingface.co}/api/whoami-v2")
    case $answer in
      200) ok HF_TOKEN 'accepted by the hub' ;;
      401 | 403) bad HF_TOKEN 'refused by the hub' 'make a new one: https://huggingface.co/settings/tokens' ;;
      *) note HF_TOKEN 'set, not tried: the hub does not answer' 'jobs from the hub need the network' ;;
    esac
  fi
}

find_settings
check_docker
check_python
check_cards
check_directories
check_memory
check_secrets
if [ "$wrong" -gt 0 ]; then
  say "$wrong thing(s) to mend"
  exit 2
fi
say "ready: make train EXP=demo runs $(case ${RUN:-$(choose_run)} in docker) say 'in a container' ;; *) say 'in .venv' ;; esac)"
