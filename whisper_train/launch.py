"""Starts the ranks of a run: in this process when there is one, by torchrun when there are several."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import psutil

from whisper_train.children import end_with_parent
from whisper_train.errors import RunFailed, Stopped, SuddenEnd, UserError
from whisper_train.plan import RunPlan, write_plan
from whisper_train.rendezvous import torchrun_environment, torchrun_flags
from whisper_train.run_folder import STOPPED
from whisper_train.sudden_ends import clear_words, read_word
from whisper_train.training.checkpoints import find_newest

RANK_MODULE = "whisper_train.training.rank"
REFUSED, FAILED = "refused: ", "failed: "  # how a rank's outcome begins when it raised UserError or RunFailed
RENDEZVOUS_SECONDS = 24 * 3600  # other hosts wait as long as the first one may audit its data


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosts:
    """Where the hosts of a run meet (torchrun's rendezvous): NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT."""

    count: int
    rank: int
    address: str
    port: int


def find_hosts(environment: Mapping[str, str]) -> Hosts:
    """The rendezvous that the environment names; one host without it. Raises UserError when it is incomplete."""
    numbers = {}
    for key, default in (("NNODES", "1"), ("NODE_RANK", "0"), ("MASTER_PORT", "29500")):
        value = environment.get(key) or default
        if not value.isdigit():
            raise UserError(f"{key}: {value}: must be a whole number")
        numbers[key] = int(value)
    count, rank = numbers["NNODES"], numbers["NODE_RANK"]
    if count > 1 and not environment.get("MASTER_ADDR"):
        raise UserError(f"MASTER_ADDR: is not set; with NNODES={count} it names the host of NODE_RANK=0")
    if not 0 <= rank < max(count, 1):
        raise UserError(f"NODE_RANK: {rank}: must be 0 to {count - 1}, another on each of the NNODES={count} hosts")
    return Hosts(
        count=max(count, 1), rank=rank, address=environment.get("MASTER_ADDR", ""), port=numbers["MASTER_PORT"]
    )


def launch(plan: RunPlan, hosts: Hosts, say: Callable[[str], None]) -> str:
    """Runs every rank of this host and returns the run's status; raises RunFailed when a rank fails.

    It is an OutOfMemory where memory ran out, and so on; Stopped where the run was asked to leave at that moment.

    SIGTERM and SIGINT stop the run while it goes on, and mean again what they meant before when it is over.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if plan.layout.ranks > 1 or plan.deepspeed is not None:
            return launch_torchrun(plan, hosts)
        from whisper_train.training.run import run_rank
        from whisper_train.training.signals import StopRequest

        request = StopRequest()
        request.install()
        try:
            return run_rank(plan, request, say)
        except SuddenEnd:
            if request.asked:
                raise Stopped from None
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launch_torchrun(plan: RunPlan, hosts: Hosts) -> str:
    plan_file, outcome = plan.folder.path / ".plan.json", plan.folder.path / f".outcome-{hosts.rank}"
    outcome.unlink(missing_ok=True)
    clear_words(plan.folder.path)
    if hosts.rank == 0:
        write_plan(plan, plan_file)
    with TemporaryDirectory(prefix="whisper-train-") as meeting:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={plan.layout.ranks_per_host}"]
        command += [*rendezvous(hosts, meeting), "-m", RANK_MODULE, str(plan_file), str(outcome)]
        # A session of its own: Ctrl-C reaches this process alone, which asks the ranks to save; torchrun would kill
        # them. The child calls nothing but prctl before it becomes torchrun, which is safe beside threads too.
        process = subprocess.Popen(
            command,
            env={**rank_environment(plan), **({} if hosts.count > 1 else torchrun_environment(meeting))},
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509
        )
        stopping = forward_signals(process)
        status = process.wait()
    if sudden := read_word(plan.folder.path):
        raise Stopped if stopping() else sudden
    if outcome.is_file():
        ended = outcome.read_text(encoding="utf-8").strip()
        if ended.startswith(REFUSED):
            raise UserError(ended.removeprefix(REFUSED))
        if ended.startswith(FAILED):
            raise RunFailed(ended.removeprefix(FAILED))
        return ended
    if stopping():
        return STOPPED
    newest = find_newest(plan.folder.checkpoints)
    raise RunFailed(
        f"a rank failed (torchrun ended with status {status}); its own message is above; started again, on every host"
        f" where there are several, the job {f'goes on from {newest.name}' if newest else 'begins anew'}"
    )


def rendezvous(hosts: Hosts, meeting: str) -> list[str]:
    """Flags by which torchrun finds the other hosts, or on a single one meets nobody but itself."""
    if hosts.count == 1:
        return torchrun_flags(meeting)
    command = [f"--nnodes={hosts.count}", f"--node-rank={hosts.rank}"]
    command += [f"--master-addr={hosts.address}", f"--master-port={hosts.port}"]
    return [*command, f"--rdzv-conf=timeout={RENDEZVOUS_SECONDS}"]


def rank_environment(plan: RunPlan) -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(plan.layout.threads), "TOKENIZERS_PARALLELISM": "false"}
    environment.setdefault("DS_SKIP_CUDA_CHECK", "1")
    return environment


def forward_signals(process: "subprocess.Popen[bytes]") -> Callable[[], bool]:
    """Passes SIGTERM and SIGINT on to the ranks, which torchrun would kill; returns whether any came."""
    asked: list[int] = []

    def forward(number: int, frame: object) -> None:
        asked.append(number)
        ranks = find_ranks(process.pid)
        if not ranks or len(asked) > 1:
            process.terminate()  # torchrun itself: there is nothing to save yet, or it was asked twice
        for rank in ranks:
            rank.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    return lambda: bool(asked)


def find_ranks(launcher: int) -> list[psutil.Process]:
    """The rank processes below torchrun, without their data-loading workers."""
    try:
        return [child for child in psutil.Process(launcher).children() if RANK_MODULE in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []
