"""Puts a converted model on the hub: the files that `convert` made and verified, under a card of their own."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from whisper_train.benchmark_model.table import make_table
from whisper_train.errors import UserError
from whisper_train.export.convert import EXPORT
from whisper_train.export.verify import VERIFICATION
from whisper_train.export.verify import VERSION as VERIFIED
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.licenses import OTHER
from whisper_train.model import files_digest
from whisper_train.paths import Directories, file_digest, read_json
from whisper_train.publish import (
    NOT_YET,
    check_secrets,
    check_verdict,
    describe_card,
    describe_goes,
    describe_places,
    describe_stays,
    describe_target,
    repository_id,
    upload,
)
from whisper_train.report.card import CARD, CARD_BESIDE, place_card
from whisper_train.report.export_card import make_export_card
from whisper_train.run_folder import RunFolder, opened
from whisper_train.tasks import check_of_speech

BENCHMARK = Path("benchmark") / "results.json"  # in the run folder
TEXTS = (".json", ".md", ".txt")
MADE = "babble "  # begins the names of sounds that convert makes; any other is a file of the user's


def publish_export(
    job: Job,
    folder: RunFolder,
    form: str,
    directories: Directories,
    *,
    yes: bool,
    force: bool,
    say: Callable[[str], None],
) -> None:
    """Writes the card of exports/<form> and says what would go to the hub; uploads it where `yes`.

    Raises UserError as publish() does, and for a folder that is not as `convert` left it, or of another model.
    """
    check_of_speech(job, "publish --export")
    root = find_export(job, folder, form)
    results = check_verdict(job, folder, force=force, say=say)
    facts, proof = read_facts(job, folder, root)
    benchmark = read_benchmark(folder.path / BENCHMARK, facts)
    repository = f"{repository_id(job)}-{form}"
    with opened(job, folder):
        card = place_card(root, make_export_card(job, results, folder.read(), facts, proof, benchmark, repository))
        files = files_to_send(root, facts, proof)
        check_secrets(root, texts_of(files))
        for line in describe(job, root, repository, files, card):
            say(line)
        if not yes:
            say(NOT_YET)
            return
        address = upload(job, repository, files, root, f"{job.name} as {form}, converted with whisper-train")
        folder.update(pushed_exports={**folder.read().get("pushed_exports", {}), form: address})
        say(f"published: {address}")


def find_export(job: Job, folder: RunFolder, form: str) -> Path:
    root = folder.path / "exports" / form
    there = sorted(path.parent.name for path in folder.path.glob(f"exports/*/{EXPORT}") if path.parent.name[0] != ".")
    if form not in there:
        raise UserError(
            f"{job.name}: --export: {form}: is not in {display(folder.path / 'exports')};"
            f" there are {', '.join(there) or 'none'} (whisper-train convert {job.name} --to … --precision … makes one)"
        )
    return root


def read_facts(job: Job, folder: RunFolder, root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """export.json and verification.json; UserError where files are others than those verified, or of another model."""
    again = f"remove the folder and convert the model again (whisper-train convert {job.name} …)"
    try:
        facts, proof = dict(read_json(root / EXPORT)), dict(read_json(root / VERIFICATION))
        digests = dict(facts["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{display(root)}: cannot be read ({error}); {again}") from error
    if facts.get("version") != 1 or proof.get("version") != VERIFIED:
        raise UserError(f"{display(root)}: was written by another version of this program; {again}")
    if facts.get("source_digest") != files_digest(folder.path):
        raise UserError(f"{display(root)}: was made of another model than {display(folder.path)} holds now; {again}")
    for name, was in digests.items():
        path = root / name
        if name != CARD and (not path.is_file() or path.is_symlink() or file_digest(path) != was):
            raise UserError(f"{display(path)}: is not the file that was verified; {again}")
    return facts, proof


def read_benchmark(path: Path, facts: Mapping[str, Any]) -> str | None:
    """The table of benchmark-model; None where it did not run since the export of export.json's `facts`.

    Raises UserError for results that are not of this program.
    """
    if not path.is_file():
        return None
    try:
        results = dict(read_json(path))
        when = datetime.fromisoformat(results["date"]), datetime.fromisoformat(facts["made"])
        return make_table(results) if when[0] >= when[1] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{display(path)}: cannot be understood ({error}); run benchmark-model again") from error


def files_to_send(root: Path, facts: Mapping[str, Any], proof: Mapping[str, Any]) -> dict[str, Path | bytes]:
    """What goes, by name: the files of export.json and the card; without the names of recordings and folders here."""
    files: dict[str, Path | bytes] = {name: root / name for name in facts["files"]}
    files[CARD] = root / CARD
    files[VERIFICATION] = dump(without_recordings(proof))
    digests = {**facts["files"], CARD: digest_of(files[CARD]), VERIFICATION: digest_of(files[VERIFICATION])}
    files[EXPORT] = dump({**facts, "source": Path(str(facts["source"])).name, "files": digests})
    return files


def without_recordings(proof: Mapping[str, Any]) -> Any:
    """verification.json with numbers in place of the names of recordings."""
    names = {
        name: name if name.startswith(MADE) else f"recording {number}"
        for number, name in enumerate(proof.get("clips", []), 1)
    }

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rename(one) for key, one in value.items()}
        if isinstance(value, list):
            return [rename(one) for one in value]
        return names.get(value, value) if isinstance(value, str) else value

    return rename(dict(proof))


def dump(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def digest_of(content: Path | bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_digest(content)


def texts_of(files: Mapping[str, Path | bytes]) -> Iterator[tuple[str, str]]:
    for name, content in files.items():
        if name.endswith(TEXTS) or name.startswith("LICENSE"):
            yield name, (content if isinstance(content, bytes) else content.read_bytes()).decode(errors="replace")


def describe(job: Job, root: Path, repository: str, files: Mapping[str, Path | bytes], card: Path) -> Iterator[str]:
    """What a person should read before saying yes, line by line."""
    sizes = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in sorted(files.items())}
    yield from describe_target(job, repository)
    yield from describe_goes(sizes)
    others = [path for path in sorted(root.iterdir()) if path.name not in files]
    why = {CARD_BESIDE: f"{CARD} is your own and goes instead"}
    stays = {path.name: (path.lstat().st_size, why.get(path.name, "convert did not make it")) for path in others}
    if stays:
        yield from describe_stays(stays)
    if job.card.license == OTHER and not any(name.startswith("LICENSE") for name in files):
        yield f"note: card.license: {OTHER}: put the text of the licence beside the model as LICENSE, and convert again"
    yield from describe_places((name, text) for name, text in texts_of(files) if name in (CARD, EXPORT, VERIFICATION))
    yield describe_card(card)
