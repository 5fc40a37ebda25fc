"""How the ranks of a single host find each other: in a file, and over loopback.

Torch's own store, which `torchrun --standalone` starts, listens on every address of the machine, and whoever connects
may change what it holds.
"""

import os
from datetime import timedelta

MEETING_FILE = "WHISPER_TRAIN_MEETING_FILE"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def torchrun_flags(folder: str) -> list[str]:
    """Flags of torchrun for one host; `folder` is empty, on a local disk, and goes when the ranks have ended."""
    return ["--rdzv-backend=c10d", f"--rdzv-endpoint={folder}/torchrun", "--rdzv-conf=store_type=file"]


def torchrun_environment(folder: str) -> dict[str, str]:
    """The variables that go with them. An interface that is named in the environment already stays."""
    meeting = {MEETING_FILE: f"{folder}/ranks", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return meeting | {name: os.environ.get(name, "lo") for name in INTERFACES}


def join_ranks(backend: str, timeout: timedelta | None = None) -> None:
    """Makes this process one of the ranks; of several hosts they meet as torchrun says."""
    import torch.distributed as dist

    if not (file := os.environ.get(MEETING_FILE)):
        dist.init_process_group(backend, timeout=timeout)
        return
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.FileStore(file, ranks)  # type: ignore[attr-defined]
    dist.init_process_group(backend, timeout=timeout, store=store, rank=rank, world_size=ranks)
