"""The commands on finished models: convert them to other runtimes' forms, and transcribe with any of these."""

import os
from pathlib import Path

import click

from whisper_train.exits import exits
from whisper_train.paths import find_directories, read_environment


@click.command()
@click.argument("model")
@click.option("--to", "format_", required=True, metavar="FORMAT", help="onnx, ctranslate2, ggml or safetensors")
@click.option("--precision", required=True, metavar="PRECISION", help="fp32, fp16, int8 or int4")
@click.option("--output", type=click.Path(path_type=Path), help="instead of $MODEL_DIR/<job>/exports/<form>")
@click.option("--audio", multiple=True, type=click.Path(path_type=Path), help="a recording to verify with; repeatable")
@click.option("--language", metavar="CODE", help="of these recordings, where the model was not trained for one")
@exits
def convert(
    model: str, format_: str, precision: str, output: Path | None, audio: tuple[Path, ...], language: str | None
) -> None:
    """Convert MODEL, a job, a folder or a hub id, and prove that the result is the same model."""
    directories = find_directories(read_environment())
    os.environ.setdefault("HF_HOME", str(directories.cache / "huggingface"))
    from whisper_train.export.convert import convert as convert_model
    from whisper_train.export.forms import Form, check_form
    from whisper_train.housekeeping.in_use import cache_in_use
    from whisper_train.run_log import quiet_libraries

    form = Form(format_, precision)
    check_form(form)
    quiet_libraries(None)
    with cache_in_use(directories.cache):
        convert_model(model, form, directories, output=output, audio=audio, language=language, say=click.echo)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice(("txt", "srt", "vtt", "json")), default="txt", help="default: txt"
)
@click.option("--language", metavar="CODE", help="of the speech; else the model's own, or what it hears")
@click.option("--beams", type=click.IntRange(min=1), default=1, help="candidates of beam search; default: 1")
@click.option("--output", type=click.Path(path_type=Path), help="a folder for a file of each recording")
@exits
def transcribe(
    folder: Path, audio: tuple[Path, ...], format_: str, language: str | None, beams: int, output: Path | None
) -> None:
    """Transcribe AUDIO, of any length, with the model in FOLDER: an exported one, or a run's."""
    from whisper_train.export.transcribe import transcribe_files
    from whisper_train.run_log import quiet_libraries

    quiet_libraries(None)
    transcribe_files(folder, audio, format_, language=language, beams=beams, output=output, say=click.echo)
