"""A model converted, proven, and put in its place: complete or absent."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from whisper_train import __version__
from whisper_train.errors import RunFailed, UserError
from whisper_train.export.forms import Form, check_form, estimate_bytes
from whisper_train.export.grids import OnGrid, choose_layers, put_on_grids
from whisper_train.export.integers import count_integers
from whisper_train.export.recordings import CLIPS, Heard, recordings_for
from whisper_train.export.source import Source, Trained, check_trained_for, find_place, load_source
from whisper_train.export.verify import VERIFICATION, VERSION, verify_exact, verify_folder
from whisper_train.job_file import display
from whisper_train.model import QUANTIZATION_FILE, current_umask, files_digest, load_config
from whisper_train.paths import Directories, as_size, file_digest, make_directory, sync, write_json
from whisper_train.planning.room import Take, check_room
from whisper_train.planning.takes import download_takes

EXPORT = "export.json"
TRAVELS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", QUANTIZATION_FILE)
PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "ctranslate2", "numpy")


def convert(
    name: str,
    form: Form,
    directories: Directories,
    *,
    output: Path | None = None,
    audio: Sequence[Path] = (),
    clips: int = CLIPS,
    language: str | None = None,
    say: Callable[[str], None],
) -> Path:
    """Converts the model that `name` stands for and returns its new folder; RunFailed when it is not the same model.

    It is verified with the recordings `audio`, else with up to `clips` of the sets of the model's job.
    """
    from whisper_train.export.ready import ready

    check_form(form)
    runtime = ready(form)
    place = find_place(name, directories)
    folder = find_output(output or default_output(name, place, form, directories))
    check_download_room(place, directories, say)
    source = load_source(name, directories)
    check_trained_for(source.trained, form)
    runtime.check(source, form)
    heard = recordings_for(source, audio, clips, language, directories, say)
    takes = [Take(place=folder, bytes=estimate_bytes(source.model, form), what=f"the model as {form.folder}")]
    make_directory(folder.parent, named_by="convert: --output")
    check_room(takes, say, key="convert: --output", way_out="--output names a folder on another disk")
    with made_whole(folder) as aside:
        placed = put_on_grids(source.model, choose_layers(source.model, form, source.trained), form)
        write_companions(source, aside)
        runtime.write(source, placed, form, aside)
        facts = verify(runtime, source, placed, form, aside, heard, say)
        write_json(aside / VERIFICATION, facts)
        write_json(aside / EXPORT, describe(source, form, placed, aside))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"{display(folder)}: {as_size(size)}, verified")
    return folder


def check_download_room(place: str, directories: Directories, say: Callable[[str], None]) -> None:
    """Says what a model of the hub takes in the cache, where it is not there yet; UserError without room for it."""
    if not Path(place).is_absolute():
        takes = download_takes(place, load_config(place, key="convert"), directories.cache)
        check_room(takes, say, key="CACHE_DIR", way_out="CACHE_DIR names another disk")


def verify(
    runtime: Any,
    source: Source,
    placed: Mapping[str, OnGrid],
    form: Form,
    folder: Path,
    heard: Heard,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What verification.json says; RunFailed for a folder that is not the model."""
    facts: dict[str, Any] = {"version": VERSION, "form": form.folder}
    written = placed if form.bits else {}
    if written:
        facts["integers"] = count_integers(written, runtime.read(folder, written))
        counted = facts["integers"]
        say(f"integers: {counted['integers']:,} of {counted['tensors']} tensors equal the grid")
        if exact := runtime.open_exact(source, written, folder):
            what, traced = exact
            facts |= verify_exact(what, traced, source.model, form, heard, say)
    opened = runtime.open(folder)
    if opened is None:
        say(f"{form.folder}: logits and tokens were not compared: {runtime.absent}")
        return {**facts, "not_compared": runtime.absent}
    decode = partial(source.processor.decode, skip_special_tokens=True)
    return facts | verify_folder(opened, source.model, written, form, heard, decode, say)


def default_output(name: str, place: str, form: Form, directories: Directories) -> Path:
    """$MODEL_DIR/<job>/exports/<form>, or beside the models by the name of what is no run."""
    if Path(place).parent == directories.models:
        return Path(place) / "exports" / form.folder
    return directories.models / Path(name).name / "exports" / form.folder


def find_output(folder: Path) -> Path:
    """`folder` as absolute; raises UserError when something is there already."""
    folder = folder.expanduser().absolute()
    if folder.exists():
        raise UserError(f"convert: --output: {folder}: is there already; remove it, or name another folder")
    return folder


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Yields a folder beside `folder`, which becomes it when the block ends well and is removed when it does not."""
    aside = folder.with_name(f".{folder.name}.incomplete")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed conversion left
    aside.mkdir()
    try:
        yield aside
        for path in sorted(aside.rglob("*"), reverse=True):
            if path.is_file():
                path.chmod(0o666 & ~current_umask())
            sync(path)
        sync(aside)
        if folder.exists():
            raise RunFailed(f"{folder}: was made by another process meanwhile; remove one of the two")
        aside.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_companions(source: Source, folder: Path) -> None:
    """Configuration, generation settings, processor and model card, as transformers and others look for them."""
    source.model.config.save_pretrained(folder)
    source.model.generation_config.save_pretrained(folder)
    source.processor.save_pretrained(folder)
    source.processor.feature_extractor.save_pretrained(folder)  # preprocessor_config.json, for faster-whisper
    for name in TRAVELS:
        if source.folder and (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)


def describe(source: Source, form: Form, placed: Mapping[str, OnGrid], folder: Path) -> dict[str, Any]:
    """What export.json says: what this is, of what it was made, and a digest of each file."""
    trained = source.trained
    tensors = {
        name: {"bits": one.grid.bits, "group": one.grid.group, "activation": one.activation and asdict(one.activation)}
        for name, one in placed.items()
    }
    return {
        "version": 1,
        "format": form.format,
        "precision": form.precision,
        "source": source.name,
        "source_digest": files_digest(source.folder) if source.folder else None,
        "trained_for": {"scheme": trained.scheme, "target": trained.target} if trained else None,
        "tensors": tensors,
        "not_trained_on_their_grid": sorted(
            name for name, one in placed.items() if trained is None or not learned(trained, name, one)
        ),
        "files": {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()},
        "made_with": {"whisper-train": __version__, **{name: version_of(name) for name in PACKAGES}},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def learned(trained: Trained, name: str, one: OnGrid) -> bool:
    """Whether the weight `name` was trained as it is now: on this grid, with its input rounded this way."""
    layer = trained.layers.get(name)
    return layer is not None and (layer.grid, layer.activation) == (one.grid, one.activation)


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
