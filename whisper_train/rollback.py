"""The way back from a bad loss: to a checkpoint before it, and on with smaller steps."""

from collections.abc import Callable
from dataclasses import replace

from whisper_train.errors import RunFailed
from whisper_train.launch import Hosts
from whisper_train.plan import RunPlan
from whisper_train.prepare import make_resumable
from whisper_train.run_folder import rate_factor
from whisper_train.sudden_ends import BadLoss
from whisper_train.training.checkpoints import find_good, set_aside

SMALLER = 0.5  # of the learning rate, each time
MOST_ROLLBACKS = 5  # a run that needs more learns nothing: 1/32 of its rate is left


def rolled_back(plan: RunPlan, error: BadLoss, hosts: Hosts, say: Callable[[str], None]) -> RunPlan:
    """The plan that goes on from a checkpoint before the bad loss, with smaller steps; run.json remembers them.

    Raises RunFailed where the job says stop, where it was done too often, and with several hosts, of which each has a
    launcher of its own.
    """
    folder = plan.folder
    newest = find_good(folder.checkpoints, say)
    start = newest.name if newest else "its beginning"
    if plan.job.faults.bad_loss == "stop":
        raise RunFailed(
            f"{error}; nothing was saved of it. Way out: --set faults.bad_loss=rollback goes on from {start} with half"
            " the learning rate; or look for the cause in the data or in training.learning_rate"
        )
    done = list(folder.read().get("rollbacks", []))
    if len(done) == MOST_ROLLBACKS:
        raise RunFailed(
            f"{error}; the run has gone back {MOST_ROLLBACKS} times, and its learning rate is"
            f" {rate_factor(folder):g} of the job's: the cause lies elsewhere, in the data most often"
        )
    if newest and done and done[-1]["from"] == newest.name:  # its weights may have been lost already
        set_aside(newest)
        newest = find_good(folder.checkpoints, say)
        start = newest.name if newest else "its beginning"
    factor = rate_factor(folder) * SMALLER
    done.append({"step": error.step, "cause": str(error), "from": start, "learning_rate_factor": factor})
    folder.update(rollbacks=done)
    goes_on = f"the run goes on from {start} with {factor:g} of the job's learning rate"
    say(f"{error}; nothing was saved of it: {goes_on}")
    if hosts.count > 1:
        raise RunFailed(f"{error}; start the job again on every host: {goes_on}")
    deepspeed = make_resumable(newest, plan.layout, plan.deepspeed, say) if newest else plan.deepspeed
    return replace(plan, checkpoint=newest, deepspeed=deepspeed)
