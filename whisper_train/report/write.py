"""Everything that people look at after an evaluation: the report page, the model card, the scores in TensorBoard."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from whisper_train.audio import Waveform
from whisper_train.augment.augmenter import augmenter_for
from whisper_train.augment.settings import load_settings
from whisper_train.data.index import Index
from whisper_train.data.prepare import index_path
from whisper_train.errors import UserError
from whisper_train.evaluation.hallucination import has_loop, is_too_long
from whisper_train.evaluation.passages import AUGMENT_SEED
from whisper_train.evaluation.results import find_transcriptions
from whisper_train.evaluation.transcription import read_header
from whisper_train.job import Job
from whisper_train.job_data import LONG_FORM_SET
from whisper_train.paths import file_digest, read_json
from whisper_train.report.card import write_card
from whisper_train.report.page import write_report
from whisper_train.report.sound import Change
from whisper_train.report.tensorboard import write_scores
from whisper_train.run_folder import RunFolder
from whisper_train.training.arguments import report_to
from whisper_train.training.checkpoints import find_newest

Say = Callable[[str], None]


def write_run_reports(job: Job, folder: RunFolder, results: dict[str, Any], cache: Path, say: Say) -> Path:
    """Writes report, card and TensorBoard's scores of a run; returns the report."""
    run = folder.read()
    if "tensorboard" in report_to(job):
        write_scores(folder.logs, job, results, run.get("steps", 0))
    write_card(job, folder)
    return write_page(folder.evaluation, results, cache, say, folder)


def write_page(place: Path, results: Mapping[str, Any], cache: Path, say: Say, folder: RunFolder | None = None) -> Path:
    """Writes the report of the evaluation in `place`; with what is known of the run in `folder`."""
    files = [
        path
        for label, sets in find_transcriptions(place).items()
        for name, path in sets.items()
        if label in results["models"] and name in results["sets"] and name != LONG_FORM_SET
    ]
    headers = [read_header(path) for path in files]
    audit = folder.data / "audit.json" if folder else place / "data" / "audit.json"
    return write_report(
        place,
        results,
        transcriptions=files,
        cache=cache,
        run=folder.read() if folder else {},
        audit=read_json(audit) if audit.is_file() else {},
        history=training_history(folder) if folder else [],
        audio_columns={header["set"]: header.get("audio_columns", []) for header in headers if "set" in header},
        find_hallucinations=marks,
        changes={header["set"]: find_change(header, place, cache) for header in headers if header.get("augment")},
        say=say,
    )


def find_change(header: Mapping[str, Any], place: Path, cache: Path) -> Change:
    """What makes the clips of a changed set sound again as they were heard for the evaluation in `place`.

    It raises ValueError where that is not possible any more: babble needs the index of the set, noise its recordings.
    """
    reason = "its set has been audited anew since; evaluate again"
    for folder in (place, *place.parents[:2]):  # the evaluation's own data, or those of its run
        path = index_path(folder / "data", f"eval.{header['set']}")
        if path.is_file() and file_digest(path) == header.get("set_digest"):
            settings = load_settings(header["augment"])
            try:
                augmenter = augmenter_for(settings, Index(path, cache), header["audio_columns"], AUGMENT_SEED)
            except UserError as error:
                reason = str(error)
                break
            assert augmenter
            return augmenter

    def refuse(waveform: Waveform, source: int, position: int) -> Waveform:
        raise ValueError(reason)

    return refuse


def training_history(folder: RunFolder) -> list[dict[str, Any]]:
    """What the trainer logged, as its newest checkpoint has it; nothing where checkpoints are gone."""
    newest = find_newest(folder.checkpoints)
    return list(read_json(newest / "trainer_state.json")["log_history"]) if newest else []


def marks(line: Mapping[str, Any]) -> list[str]:
    """What a line of a transcription is marked with, if its text is none that was spoken."""
    said, heard = str(line["reference"]), str(line["hypothesis"])
    seconds = float(line.get("seconds") or "nan")
    found = [("loops", has_loop(said, heard)), ("too long", is_too_long(said, heard, seconds))]
    return [name for name, present in found if present]
