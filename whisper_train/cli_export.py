"""The commands on finished models: convert, measure, transcribe with them; and `qat`, which ends so."""

import os
from pathlib import Path

import click

from whisper_train.errors import DONE, GATE_MISSED, UserError
from whisper_train.exits import exits, stopping_after
from whisper_train.options import job_options, language_option, leave_to_itself, stop_option
from whisper_train.paths import find_directories, read_environment
from whisper_train.run_log import print_line


@click.command()
@click.argument("job")
@job_options
@stop_option
@click.option("--detach", is_flag=True, help="run in the background; a closed terminal does not end it")
@exits
def qat(job: str, machine: str | None, overrides: tuple[str, ...], stop_after: str | None, detach: bool) -> int:
    """Train JOB for integers, after the jobs it is based on, evaluate it so, convert it, and measure what came out.

    Run it again to resume.
    """
    from whisper_train.benchmark_model.command import Settings, benchmark, check_packages
    from whisper_train.runner import resolve, train_named
    from whisper_train.tasks import check_of_speech

    environment = read_environment()
    resolved, _ = resolve(job, machine, overrides, environment)
    check_of_speech(resolved, "qat")
    if resolved.quantization is None:
        raise UserError(
            f"{resolved.name}: quantization: is missing, so nothing would be quantized; add it, or train the job as it"
            f" is (make train EXP={resolved.name})"
        )
    check_packages("qat")  # before days of training
    if detach:
        return leave_to_itself(resolved, environment)
    with stopping_after(stop_after):
        status = train_named(job, machine, overrides, environment)
    if status in (DONE, GATE_MISSED):
        benchmark(resolved, find_directories(environment), Settings(), print_line)
    return status


@click.command()
@click.argument("model")
@click.option("--to", "format_", required=True, metavar="FORMAT", help="onnx, ctranslate2, ggml or safetensors")
@click.option("--precision", required=True, metavar="PRECISION", help="fp32, fp16, int8 or int4")
@click.option("--output", type=click.Path(path_type=Path), help="instead of $MODEL_DIR/<job>/exports/<form>")
@click.option("--audio", multiple=True, type=click.Path(path_type=Path), help="a recording to verify with; repeatable")
@click.option("--clips", type=click.IntRange(min=1), default=12, help="of the job's sets to verify with; default: 12")
@language_option("of these recordings, where the model was not trained for one")
@exits
def convert(
    model: str,
    format_: str,
    precision: str,
    output: Path | None,
    audio: tuple[Path, ...],
    clips: int,
    language: str | None,
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
        convert_model(
            model,
            form,
            directories,
            output=output,
            audio=audio,
            clips=clips,
            language=language,
            say=click.echo,
        )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice(("txt", "srt", "vtt", "json")), default="txt", help="default: txt"
)
@language_option("of the speech; else the model's own, or what it hears")
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


@click.command("benchmark-model")
@click.argument("job")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@job_options
@click.option("--sets", multiple=True, metavar="NAME", help="these sets of data.eval only; repeatable")
@click.option("--max-samples", type=click.IntRange(min=1), default=200, help="clips of each set, spread; default: 200")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="every file takes a turn in each; default: 3")
@click.option("--threads", type=click.IntRange(min=1), help="default: the cores there are")
@exits
def benchmark_model(
    job: str,
    folders: tuple[Path, ...],
    machine: str | None,
    overrides: tuple[str, ...],
    sets: tuple[str, ...],
    max_samples: int,
    rounds: int,
    threads: int | None,
) -> None:
    """Measure JOB's model in every form beside one another, on the clips of its sets; or FOLDERS, the first as measure.

    What has not been converted is converted first. Size, memory, speed, WER and CER; it ends with what to ship.
    """
    from whisper_train.benchmark_model.command import Settings, benchmark
    from whisper_train.run_log import quiet_libraries
    from whisper_train.runner import resolve

    environment = read_environment()
    resolved, _ = resolve(job, machine, overrides, environment)
    quiet_libraries(None)
    settings = Settings(folders=folders, sets=sets, clips=max_samples, rounds=rounds, threads=threads)
    benchmark(resolved, find_directories(environment), settings, print_line)
