"""After training: makes the model of the run folder what its job asks for, the tuned one or an average with its base.

Whatever was transcribed stays on the disk, and run.json names the choice when all is done: killed anywhere, it goes on.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from whisper_train.averaging.choice import Point, choose, retention_sets
from whisper_train.averaging.measure import hand_over, make_question, measure
from whisper_train.averaging.state import ASIDE, asked_of, is_settled
from whisper_train.averaging.weights import Ends, make_average
from whisper_train.errors import UserError
from whisper_train.evaluation.gates import percent
from whisper_train.evaluation.table import align
from whisper_train.job import Job
from whisper_train.job_file import display, dump_job
from whisper_train.paths import Directories, write_text
from whisper_train.run_folder import DONE, GATE_MISSED, TRAINED, RunFolder
from whisper_train.tasks import parts_of


def settle_model(
    job: Job,
    folder: RunFolder,
    base: str,
    directories: Directories,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Makes the run folder's model what `job` asks for; does nothing where it is that already.

    `base` is the folder or hub id of the job's base. Raises UserError when the checkpoint that it needs is gone.
    """
    facts = folder.read()
    if facts.get("kept") and is_settled(job, facts):
        return
    if facts.get("kept"):
        find_tuned(folder)
    if facts["status"] in (DONE, GATE_MISSED):  # another averaging is asked for: the verdict was on other weights
        write_text(folder.path / "job.yaml", dump_job(job))
        folder.update(status=TRAINED, promoted=None)
    if not facts.get("kept") or job.averaging is None:
        parts_of(job).save_best(job, folder, base, say)
    if job.averaging is not None:
        started = time.monotonic()
        average_run(Ends(job=job, base=base, tuned=find_tuned(folder)), folder, directories, environment, say)
        folder.add_time("averaging", time.monotonic() - started)


def find_tuned(folder: RunFolder) -> Path:
    """The checkpoint that the tuned model is made of; raises UserError when it is gone."""
    from whisper_train.training.checkpoints import find_damage

    facts = folder.read()
    path = folder.checkpoints / str(facts["kept"])
    if damage := find_damage(path):
        made = json.dumps((facts.get("averaging") or {}).get("asked"))
        raise UserError(
            f"averaging: starts from {display(path)}, the tuned model, which is damaged or gone ({damage}); put it"
            f" back, or ask for what the run's model was made with: averaging: {made}"
        )
    return path


def average_run(
    ends: Ends, folder: RunFolder, directories: Directories, environment: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Measures the averages between both ends, and puts the chosen one into the run folder."""
    job, aside = ends.job, folder.path / ASIDE
    assert job.averaging is not None
    asked = make_question(job, folder, directories, environment, say)
    curve, metrics = measure(ends, asked, aside, say)
    others = retention_sets(job)
    choice = choose(curve, job.averaging.weights, next(iter(job.data.eval)), others, job.averaging.max_loss)
    record = {
        "asked": asked_of(job),
        "chosen": choice.weight,
        "within": choice.within,
        "sentence": choice.sentence,
        "retention": others,
        "metrics": metrics,
        "clips": {name: len(positions) for name, positions in asked.positions.items()},
        "curve": [{"weight": point.weight, "rates": point.rates} for point in curve],
    }
    folder.update(kept=None, averaging=None)  # until both are written the model that lies there is neither
    make_average(ends, choice.weight, folder.path)
    hand_over(ends, asked, choice.weight, aside)
    folder.update(kept=ends.tuned.name, averaging=record)
    say("\n".join([*make_table(curve, metrics), f"kept: {choice.sentence}"]))


def make_table(curve: Sequence[Point], metrics: Mapping[str, str]) -> list[str]:
    """The rates of every weight on every set, as lines of a log."""
    heading = ("of the tuned model", *(f"{name} {metric.upper()}" for name, metric in metrics.items()))
    return align([heading, *((f"{point.weight:g}", *map(percent, point.rates.values())) for point in curve)])
