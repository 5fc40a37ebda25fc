"""The ranks of one host: they meet without a port that anybody else can reach."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from whisper_train.rendezvous import torchrun_environment, torchrun_flags

RANK = """
import psutil
import torch
import torch.distributed as dist
from whisper_train.rendezvous import join_ranks
join_ranks("gloo")
total = torch.ones(1)
dist.all_reduce(total)
family = [psutil.Process(), psutil.Process().parent()]
sockets = [one for process in family for one in process.net_connections("all") if one.status == psutil.CONN_LISTEN]
dist.barrier()
print("total", int(total), "listening", sorted({one.laddr.ip for one in sockets}), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_meet_over_loopback_alone(place: Path) -> None:
    """`torchrun --standalone` has its store listen on every address, so that anybody can change what is in it."""
    (place / "rank.py").write_text(RANK)
    (place / "meeting").mkdir()
    meeting = str(place / "meeting")
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *torchrun_flags(meeting), "rank.py"]
    variables = {**os.environ, **torchrun_environment(meeting), "PYTHONPATH": str(REPOSITORY)}

    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=600, check=True)

    assert done.stdout.splitlines() == ["total 2 listening ['127.0.0.1']"] * 2


def test_an_interface_that_is_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    variables = torchrun_environment("/tmp/x")
    assert (variables["GLOO_SOCKET_IFNAME"], variables["NCCL_SOCKET_IFNAME"]) == ("eth7", "lo")
