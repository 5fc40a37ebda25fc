"""Puts a finished model on the Hugging Face hub: what belongs to a model and its proof, and nothing else."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from whisper_train.averaging.state import check_settled
from whisper_train.errors import RunFailed, UserError
from whisper_train.evaluation.results import FORMAT, TUNED
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.licenses import OTHER
from whisper_train.model import QUANTIZATION_FILE, files_digest
from whisper_train.paths import as_size, read_json
from whisper_train.plan import load_resolved
from whisper_train.report.card import CARD, CARD_BESIDE, write_card
from whisper_train.report.words import is_hub_id, without_folders
from whisper_train.run_folder import DONE, FAILED, RUNNING, STOPPED, TRAINED, RunFolder, opened
from whisper_train.secret_values import secrets_of

# All that goes. A list of what is allowed: whatever else somebody put there, a .env, recordings, notes, stays.
MODEL: tuple[str, ...] = ("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json")
MODEL += ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
MODEL += (
    "merges.txt",
    "normalizer.json",
    "sentencepiece.bpe.model",
    "model.safetensors",
    "model.safetensors.index.json",
)
MODEL += (
    QUANTIZATION_FILE,
    f"model-{'[0-9]' * 5}-of-{'[0-9]' * 5}.safetensors",
)
PROOF = (CARD, "LICENSE", "LICENSE.txt", "LICENSE.md", "job.yaml", "run.json", "evaluation/results.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

# Why the others stay; the first pattern that fits says it. A * fits folders too.
STAYS = {
    "checkpoints/*": "to go on training from",
    "data/*": "which clips there were, with their transcripts",
    "base/*": "the random weights it started from",
    "exports/*": "other forms of the same model",
    "evaluation/transcriptions/*": "what people said",
    "evaluation/predictions/*": "what people wrote",
    "evaluation/*.jsonl": "what people said",
    "evaluation/report.html": "people's voices are in it",
    CARD_BESIDE: f"{CARD} is your own and goes instead",
    ".*": "hidden",
    "*.bin": "pickled weights can run code where they are loaded",
    "*.pt": "pickled weights can run code where they are loaded",
    "*": "no part of a model folder",
}
RESULTS = "evaluation/results.json"
NOT_YET = "nothing was uploaded; --yes (YES=1) does it"
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")
FOLDER_OF_MACHINE = re.compile(r"(?<![\w/:.<~-])(?:/[\w.@+-]+){2,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """The files of a run folder, relative to it, with their bytes: those that go, and those that stay with why."""

    goes: dict[str, int]
    stays: dict[str, tuple[int, str]]


def publish(job: Job, folder: RunFolder, *, yes: bool, force: bool, say: Callable[[str], None]) -> None:
    """Writes the card and says what would go to the hub; uploads it where `yes`.

    Raises UserError for a run without a finished result, and for one that is not promoted, unless `force`.
    """
    check_verdict(job, folder, force=force, say=say)
    with opened(job, folder):
        card = write_card(job, folder)
        contents = checked_contents(folder)
        for line in describe(job, folder, contents, card):
            say(line)
        if not yes:
            say(NOT_YET)
            return
        address = push(job, folder)
        folder.update(pushed=address)
        say(f"published: {address}")


def check_verdict(job: Job, folder: RunFolder, *, force: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The results of a run that may be published.

    Raises UserError for a run without a finished result, and for one that is not promoted, unless `force`.
    """
    results = finished_results(job, folder)
    if load_resolved(folder.path / "job.yaml").gates != job.gates:
        raise UserError(
            f"{job.name}: gates: have changed since it was judged; make train EXP={job.name} judges it again"
        )
    check_settled(job, folder.read())
    if results.get("promoted") is not True or folder.read()["status"] != DONE:
        missed = "; ".join(gate["sentence"] for gate in results.get("gates") or [] if not gate["met"])
        verdict = f"{job.name}: is not promoted{f' ({missed})' if missed else ''}"
        if not force:
            raise UserError(f"{verdict}; train or evaluate it again, or publish it all the same with --force (FORCE=1)")
        say(f"{verdict}; it goes all the same, as asked, and its card says so")
    return results


def finished_results(job: Job, folder: RunFolder) -> dict[str, Any]:
    """results.json of a run that came to its end; raises UserError for any other."""
    path, status = folder.evaluation / "results.json", folder.read().get("status")
    if not path.is_file() or status in (None, RUNNING, TRAINED, STOPPED, FAILED):
        state = f"is {status}" if status else "was not trained"
        raise UserError(
            f"{job.name}: {state} and has no finished result in {display(folder.path)};"
            f" train it to its end first (make train EXP={job.name})"
        )
    try:
        results = dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise UserError(f"{display(path)}: cannot be read ({error}); evaluate the model again") from error
    if results.get("version") != FORMAT or not results.get("sets"):
        raise UserError(f"{display(path)}: is not of version {FORMAT}; evaluate the model again")
    measured = results.get("models", {}).get(TUNED, {}).get("digest")
    if measured and measured != files_digest(folder.path):
        raise UserError(f"{display(path)}: is about other weights than those beside it; evaluate them (make eval)")
    return results


def without_people(results: dict[str, Any]) -> dict[str, Any]:
    """The results as everybody may read them: no speaker by name, no word that somebody said, no folder of ours."""
    public = json.loads(json.dumps(results))
    for measured in public.get("sets", {}).values():
        measured.pop("confusions", None)
        measured.get("slices", {}).pop("speaker", None)
        measured["sources"] = [without_folders(label) for label in measured.get("sources", [])]
    for model in [public, *public.get("models", {}).values()]:
        for key in model.keys() & {"base", "model"}:
            if model[key] and not is_hub_id(model[key]) and not model[key].startswith("job:"):
                model[key] = Path(model[key]).name
    return dict(public)


def checked_contents(folder: RunFolder) -> Contents:
    """What goes and what stays; raises UserError where the model is not whole or a file that goes holds a secret."""
    contents = sort_files(folder.path)
    if "config.json" not in contents.goes or not contents.goes.keys() & set(WEIGHTS):
        raise UserError(f"{display(folder.path)}: holds no whole model (config.json and {WEIGHTS[0]}); train it again")
    check_secrets(folder.path, read_texts(folder, contents))
    return contents


def check_secrets(root: Path, texts: Iterable[tuple[str, str]]) -> None:
    """Raises UserError where one of `texts`, which are of files in `root`, holds a secret."""
    secrets = {value: f"the value of {name}" for value, name in secrets_of(os.environ).items()}
    for name, text in texts:
        found = next((what for value, what in secrets.items() if value in text), None)
        if found is None and HUB_TOKEN.search(text):
            found = "what looks like a token of the hub"
        if found:
            raise UserError(f"{display(root / name)}: holds {found}; take it out, and make a new one: it was read")


def sort_files(root: Path) -> Contents:
    """Every file below `root`, as what goes or stays; links are not followed."""
    goes, stays = {}, {}
    for path in sorted(root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name, size = path.relative_to(root).as_posix(), path.lstat().st_size
        if not any(fnmatchcase(name, pattern) for pattern in (*MODEL, *PROOF)):
            stays[name] = size, next(why for pattern, why in STAYS.items() if fnmatchcase(name, pattern))
        elif path.is_symlink() or not path.is_file():
            stays[name] = size, "a link: copy the file itself here"
        else:
            goes[name] = size
    return Contents(goes=goes, stays=stays)


def read_texts(folder: RunFolder, contents: Contents) -> Iterator[tuple[str, str]]:
    """Name and text of what goes, weights apart."""
    for name in contents.goes:
        if not name.endswith(".safetensors"):
            sent = to_send(folder, name)
            yield name, (sent if isinstance(sent, bytes) else sent.read_bytes()).decode(errors="replace")


def describe(job: Job, folder: RunFolder, contents: Contents, card: Path) -> Iterator[str]:
    """What a person should read before saying yes, line by line."""
    yield from describe_target(job, repository_id(job))
    yield from describe_goes(contents.goes)
    if RESULTS in contents.goes:
        yield f"  ({RESULTS} without its slices by speaker and its confused words)"
    yield from describe_stays(contents.stays)
    if job.card.license == OTHER and not any(name.startswith("LICENSE") for name in contents.goes):
        yield f"note: card.license: {OTHER}: put the text of the licence beside the model as LICENSE"
    yield from describe_places((name, text) for name, text in read_texts(folder, contents) if name in PROOF)
    yield describe_card(card)


def describe_target(job: Job, repository: str) -> Iterator[str]:
    """Where it goes, and who can see it there."""
    private = job.training.get("hub_private_repo")
    kept = "; a repository that is there already stays as it is"
    seen = (
        "private" if private else f"public, for everybody to download (training.hub_private_repo: true: private){kept}"
    )
    owner = "" if "/" in repository else ", in the account of HF_TOKEN (training.hub_model_id: owner/name: another)"
    yield f"to the hub as {repository}{owner}"
    yield f"  {seen}"


def describe_goes(goes: Mapping[str, int]) -> Iterator[str]:
    yield f"what goes ({as_size(sum(goes.values()))}; it is read where it lies, and takes no more disk here):"
    yield from (f"  {as_size(size):>10}  {name}" for name, size in goes.items())


def describe_stays(stays: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    yield "what stays here:"
    groups: dict[tuple[str, str], list[int]] = {}
    for name, (size, why) in stays.items():
        top = name if "/" not in name or name.startswith("evaluation/") else f"{name.partition('/')[0]}/"
        groups.setdefault((top, why), []).append(size)
    yield from (f"  {as_size(sum(sizes)):>10}  {name}  ({why})" for (name, why), sizes in groups.items())


def describe_places(texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in texts:
        if places := dict.fromkeys(FOLDER_OF_MACHINE.findall(text)):
            yield f"note: {name} names places of this machine: {', '.join(list(places)[:3])}"


def describe_card(card: Path) -> str:
    if card.name == CARD:
        return f"read the card before it goes: {display(card)}"
    return f"{CARD} is your own and stays as it is; the card with the figures of this run is {display(card)}"


def to_send(folder: RunFolder, name: str) -> Path | bytes:
    """A file that goes: as it lies there, but for the results, which name people."""
    if name != RESULTS:
        return folder.path / name
    return json.dumps(without_people(read_json(folder.path / name)), indent=2, ensure_ascii=False).encode()


def repository_id(job: Job) -> str:
    return str(job.training.get("hub_model_id") or job.name)


def push(job: Job, folder: RunFolder) -> str:
    """Uploads the model and its proof as training.hub_model_id (or the job's name); returns the repository's address.

    The token is HF_TOKEN of the environment. Raises RunFailed when the hub refuses, the model stays on the disk; and
    UserError for a folder that must not go as it is.
    """
    contents = checked_contents(folder)
    files = {name: to_send(folder, name) for name in contents.goes}
    return upload(job, repository_id(job), files, folder.path, f"{job.name}, trained with whisper-train")


def upload(job: Job, repository: str, files: Mapping[str, Path | bytes], place: Path, message: str) -> str:
    """Commits `files` of the folder `place` to `repository`, as `job` says; returns its address. Raises as push()."""
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if not (token := get_token()):
        raise UserError("HF_TOKEN: is not set; put a token that may write into .env (https://hf.co/settings/tokens)")
    hub, settings = HfApi(), job.training
    try:
        there = hub.create_repo(repository, private=settings.get("hub_private_repo"), exist_ok=True)
        if settings.get("hub_private_repo") and hub.repo_info(there.repo_id).private is False:
            raise UserError(
                f"training.hub_private_repo: true: {there.repo_id} is there already and public;"
                " make it private in its settings on the hub, or name another in training.hub_model_id"
            )
        hub.create_commit(
            there.repo_id,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()],
            revision=settings.get("hub_revision"),
            commit_message=message,
        )
    except UserError:
        raise
    except Exception as error:
        reason = str(error).replace(token, "(token)")
        raise RunFailed(f"the model is whole in {place}, but the hub refused it: {reason}") from error
    return str(there)
