"""What torchrun starts on every rank: `python -m whisper_train.training.rank PLAN OUTCOME`."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

from whisper_train.children import end_with_parent
from whisper_train.errors import RunFailed, Stopped, SuddenEnd, UserError
from whisper_train.launch import FAILED, REFUSED
from whisper_train.paths import write_text
from whisper_train.plan import RunPlan, read_plan
from whisper_train.rendezvous import join_ranks
from whisper_train.run_folder import RANKS_LOCK, STOPPED, TRAINING_LOG, locked
from whisper_train.run_log import open_log, quiet_libraries
from whisper_train.sudden_ends import leave_word
from whisper_train.training.checkpoints import find_newest

GLOO_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused")
TIMEOUT = timedelta(hours=1)  # ranks wait for the first one to sync a large checkpoint, or to transcribe a longer share


def main(plan_file: Path, outcome: Path) -> None:
    from whisper_train.training.signals import StopRequest

    request = StopRequest()
    request.install()
    end_with_parent()  # torchrun, of whose loss nothing else would tell: save, and leave

    import torch
    import torch.distributed as dist

    # Before the plan is read: the ranks of other hosts wait here until the first host has prepared everything.
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # else objects are gathered over card 0 on every rank
    join_ranks("nccl" if cuda else "gloo", TIMEOUT)
    from whisper_train.training.run import run_rank

    plan = read_plan(plan_file)
    if plan.deepspeed is not None:
        start_deepspeed()
    say = make_say(plan.folder.logs / TRAINING_LOG)
    main_rank = os.environ["RANK"] == "0"
    try:
        with locked(plan.folder.path / RANKS_LOCK) if main_rank else nullcontext():
            status = run_rank(plan, request, say)
    except Stopped:
        status = STOPPED
    except UserError as error:  # all ranks find the same; the launcher tells it
        status = f"{REFUSED}{error}"
    except SuddenEnd as error:
        leave_word(plan.folder.path, int(os.environ["RANK"]), error)
        if plan.layout.ranks > 1:
            os._exit(1)  # at once: the others wait for this one in a collective operation
        status = f"{FAILED}{error}"
    except RunFailed as error:
        status = f"{FAILED}{error}"
    except RuntimeError as error:
        if not is_lost_rank(error):
            raise
        if os.environ["LOCAL_RANK"] == "0":
            write_text(outcome, f"{FAILED}{lost_rank_message(plan, error)}")
        os._exit(1)  # at once: torchrun would wait for the others after a success, and destructors for the lost one
    if os.environ["LOCAL_RANK"] == "0":
        write_text(outcome, status)
    if not request.at_once:  # else other ranks may have left already
        dist.barrier()  # without these two, gloo ranks aborted after finishing in 3 of 12 runs
        dist.destroy_process_group()


def is_lost_rank(error: RuntimeError) -> bool:
    """Whether a collective operation failed since another rank has gone: NCCL has a type for it, gloo only words."""
    from torch.distributed import DistBackendError, DistNetworkError

    return isinstance(error, DistBackendError | DistNetworkError) or any(words in str(error) for words in GLOO_LOST)


def lost_rank_message(plan: RunPlan, error: RuntimeError) -> str:
    newest = find_newest(plan.folder.checkpoints)
    after = f"it goes on from {newest.name}" if newest else "it begins anew, since it had saved no checkpoint yet"
    cause = str(error).partition("\n")[0]
    return (
        f"another rank is gone, and this one cannot go on alone ({cause}); start the job again on every host: {after}"
    )


def make_say(path: Path) -> Callable[[str], None]:
    """Only rank 0 of the first host speaks."""
    if os.environ["RANK"] == "0":
        return open_log(path)
    quiet_libraries(None)
    return lambda line: None


def start_deepspeed() -> None:
    """Starts DeepSpeed's process group. On CPU over gloo alone: its own shared-memory operator wants a compiler."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    if get_accelerator().device_name() == "cpu":
        builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
        if builder is not None:
            deepspeed.ops.__compatible_ops__[builder.NAME] = False
    deepspeed.init_distributed(dist_backend=get_accelerator().communication_backend_name())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
