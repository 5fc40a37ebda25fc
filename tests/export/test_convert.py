"""Conversions end to end, through the runtimes themselves."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import MakeJob, MakeWav, RunCli
from tests.export.models import make_openai_like
from whisper_train.errors import RunFailed, UserError
from whisper_train.export.convert import convert
from whisper_train.export.forms import Form
from whisper_train.export.grids import choose_layers, put_on_grids
from whisper_train.export.integers import count_integers
from whisper_train.export.ready import ready
from whisper_train.export.recordings import Heard
from whisper_train.export.reference import Reference
from whisper_train.export.sounds import make_clips
from whisper_train.export.source import load_source
from whisper_train.export.verify import verify_folder
from whisper_train.paths import find_directories

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Converts once what several tests look at."""
    place = tmp_path_factory.mktemp("made")
    folders: dict[str, Path] = {}

    def make(form: str, precision: str) -> Path:
        name = f"{form}-{precision}"
        if name not in folders:
            where = find_directories({"BASE_DIR": str(place)})
            folders[name] = convert(str(base), Form(form, precision), where, output=place / name, say=lambda line: None)
        return folders[name]

    return make


def first_of(speech: Path) -> Path:
    """A real recording."""
    return sorted((speech / "kerstin-de" / "audio").iterdir())[0]


def proven(folder: Path) -> Any:
    return json.loads((folder / "verification.json").read_text())


def test_the_processor_and_its_description_travel_along(made: Any) -> None:
    folder = made("ctranslate2", "int8")
    names = {path.name for path in folder.iterdir()}
    assert names >= {"tokenizer.json", "preprocessor_config.json", "generation_config.json", "export.json"}
    facts = json.loads((folder / "export.json").read_text())
    assert (facts["format"], facts["precision"], facts["trained_for"]) == ("ctranslate2", "int8", None)
    assert facts["files"].keys() == names - {"export.json"}
    assert set(facts["not_trained_on_their_grid"]) == facts["tensors"].keys()


def test_ctranslate2_holds_the_grid_and_computes_with_it(made: Any) -> None:
    facts = proven(made("ctranslate2", "int8"))
    assert facts["integers"]["differing"] == 0
    assert facts["integers"]["tensors"] == 19  # 6 a layer of the encoder, 10 of the decoder, words, 2 convolutions
    assert facts["model_with_float_activations"]["fraction"] < 1e-4


def test_a_changed_code_in_ctranslate2s_file_fails_and_names_its_layer(made: Any, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made("ctranslate2", "int8"), tmp_path / "copy")
    form = Form("ctranslate2", "int8")
    model = load_source(str(base), find_directories({})).model
    placed = put_on_grids(model, choose_layers(model, form, None), form)
    data = bytearray((folder / "model.bin").read_bytes())
    codes = placed["model.encoder.layers.0.fc1.weight"].codes.numpy().tobytes()
    place = bytes(data).index(codes) + 7
    data[place] ^= 1
    (folder / "model.bin").write_bytes(data)
    with pytest.raises(RunFailed, match=r"model\.encoder\.layers\.0\.fc1\.weight: 1 of"):
        count_integers(placed, ready(form).read(folder, placed))


def test_a_failed_conversion_leaves_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = "whisper_train.export.ctranslate2_format.read"
    monkeypatch.setattr(nothing, lambda folder, placed: [(name, None) for name in placed])
    with pytest.raises(RunFailed, match="is not in the file as integers"):
        convert(str(base), Form("ctranslate2", "int8"), find_directories({}), output=tmp_path / "x", say=print)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_faster_whisper_loads_and_transcribes(processor_dir: Path, speech: Path, tmp_path: Path) -> None:
    faster_whisper = pytest.importorskip("faster_whisper")
    base = make_openai_like(tmp_path / "base", processor_dir)
    folder = convert(str(base), Form("ctranslate2", "int8"), find_directories({}), output=tmp_path / "x", say=print)
    model = faster_whisper.WhisperModel(str(folder), device="cpu", local_files_only=True)
    segments, facts = model.transcribe(str(first_of(speech)), language="de", max_new_tokens=8, temperature=0.0)
    assert facts.language == "de"
    assert all(segment.end >= segment.start for segment in segments)


def test_transcribe_writes_each_form(made: Any, run_cli: RunCli, speech: Path, tmp_path: Path) -> None:
    folder = made("ctranslate2", "int8")
    audio = first_of(speech)
    result = run_cli("transcribe", folder, audio, "--format", "json", "--language", "de", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "out" / f"{audio.stem}.json").read_text())
    assert facts.keys() == {"audio", "language", "text", "segments"}
    assert all(0 <= one["start"] <= one["end"] for one in facts["segments"])
    wrong = run_cli("transcribe", folder, audio, "--language", "tlh")
    assert wrong.exit_code == 2
    assert "tlh: not a language of Whisper" in wrong.output


def test_transcribe_refuses_what_is_no_model_or_no_audio(
    made: Any, run_cli: RunCli, make_wav: MakeWav, tmp_path: Path
) -> None:
    audio = make_wav(tmp_path / "tone.wav")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty").mkdir()
    for folder, file, says in (
        (tmp_path / "empty", audio, "holds no model"),
        (tmp_path / "nowhere", audio, "no such folder"),
        (made("ctranslate2", "int8"), tmp_path / "text.wav", "text.wav: cannot be decoded"),
    ):
        result = run_cli("transcribe", folder, file)
        assert result.exit_code == 2
        assert says in result.output


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_onnx_is_the_model(made: Any, precision: str) -> None:
    facts = proven(made("onnx", precision))
    assert facts["logits"]["fraction"] <= facts["logits"]["bound"]
    if precision == "fp32":
        assert facts["greedy"]["equal"] == facts["beam_3"]["equal"] == facts["greedy"]["clips"] == 6
    if precision.startswith("int"):
        assert facts["integers"] == {"tensors": 17, "integers": facts["integers"]["integers"], "differing": 0}
        exact = facts.get("model_with_float_activations") or facts["decoder_with_float_activations"]
        assert exact["fraction"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, {"kind": "block-int8", "block": 16}])
def test_a_trained_grid_is_the_one_in_the_file(base: Path, tmp_path: Path, activation: Any) -> None:
    """And its inputs are rounded where, and only where, they were in training."""
    import onnx

    model = shutil.copytree(base, tmp_path / "trained")
    grid = {"bits": 4, "group": 16, "activation": activation}
    tensors = {f"model.decoder.layers.0.{part}.weight": grid for part in ("fc1", "fc2", "self_attn.q_proj")}
    facts = {"version": 1, "scheme": "int4", "target": "onnx", "tensors": {**tensors, "proj_out.weight": grid}}
    (model / "quantization.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="was trained for int4"):
        convert(str(model), Form("onnx", "int8"), find_directories({}), output=tmp_path / "x", say=print)
    folder = convert(str(model), Form("onnx", "int4"), find_directories({}), output=tmp_path / "x", say=print)
    described = json.loads((folder / "export.json").read_text())
    assert described["trained_for"] == {"scheme": "int4", "target": "onnx"}
    assert described["not_trained_on_their_grid"] == []
    assert set(described["tensors"]) == {*tensors, "model.decoder.embed_tokens.weight"}
    assert proven(folder)["integers"]["tensors"] == 4
    assert (folder / "quantization.json").is_file()
    nodes = onnx.load(folder / "decoder_model.onnx", load_external_data=False).graph.node
    levels = {
        a.i for node in nodes if node.op_type == "MatMulNBits" for a in node.attribute if a.name == "accuracy_level"
    }
    assert levels == {4 if activation else 1}


@pytest.mark.slow
def test_weights_beside_the_graphs_are_verified_and_found_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, make_wav: MakeWav
) -> None:
    monkeypatch.setattr("whisper_train.export.onnx_write.INLINE_BYTES", 1000)  # else from 1.5 GB on
    folder = convert(str(base), Form("onnx", "int4"), find_directories({}), output=tmp_path / "x", say=print)
    assert {path.name for path in folder.iterdir() if ".onnx" in path.name} == {
        f"{side}_model.onnx{end}" for side in ("encoder", "decoder") for end in ("", ".data")
    }
    assert proven(folder)["integers"]["differing"] == 0
    result = run_cli("transcribe", folder, make_wav(tmp_path / "long.wav", seconds=5.0), "--format", "srt")
    assert result.exit_code == 0, result.output


def test_a_language_that_the_model_has_no_token_of_is_refused(made: Any) -> None:
    from whisper_train.export.onnx_runtime import OnnxWhisper

    rules = replace(OnnxWhisper(made("onnx", "fp32")).rules, languages={"de": 1, "fr": 2})
    with pytest.raises(UserError, match="language: yue: the model has no such one; there are de, fr"):
        rules.prompt("yue", None)


@pytest.mark.slow
def test_a_batch_writes_what_its_clips_write_alone(made: Any, base: Path) -> None:
    from whisper_train.export.onnx_runtime import OnnxWhisper

    runtime = OnnxWhisper(made("onnx", "fp32"))
    source = load_source(str(base), find_directories({}))
    clips = [one.features for one in make_clips(source.processor.feature_extractor, [])]
    prompt = runtime.rules.prompt("de", None)
    reference = Reference(source.model)
    for beams in (1, 3):
        together = runtime.write(np.stack(clips), [prompt] * len(clips), beams=beams, max_length=20)
        alone = [runtime.write(clip[None], [prompt], beams=beams, max_length=20)[0] for clip in clips]
        assert [one.tokens for one in together] == [one.tokens for one in alone]
        assert [one.tokens for one in together] == [reference.write(clip, "de", beams, 20) for clip in clips]


@pytest.mark.slow
def test_a_changed_code_in_an_onnx_file_fails_and_names_its_layer(made: Any, base: Path, tmp_path: Path) -> None:
    import onnx

    folder = shutil.copytree(made("onnx", "int4"), tmp_path / "copy")
    model = onnx.load(folder / "decoder_model.onnx")
    stored = next(one for one in model.graph.initializer if one.name == "layers.0.fc1.packed")
    data = bytearray(stored.raw_data)
    data[11] ^= 16
    stored.raw_data = bytes(data)
    onnx.save(model, folder / "decoder_model.onnx")
    form = Form("onnx", "int4")
    source = load_source(str(base), find_directories({}))
    placed = put_on_grids(source.model, choose_layers(source.model, form, None), form)
    with pytest.raises(RunFailed, match=r"model\.decoder\.layers\.0\.fc1\.weight: 1 of"):
        count_integers(placed, ready(form).read(folder, placed))


@pytest.mark.slow
def test_a_changed_float_fails_by_the_logits_and_names_its_place(made: Any, base: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    folder = shutil.copytree(made("onnx", "fp32"), tmp_path / "copy")
    model = onnx.load(folder / "decoder_model.onnx")
    stored = next(one for one in model.graph.initializer if one.name == "positions")
    changed = numpy_helper.to_array(stored).copy()
    changed[5, 3] += 1
    stored.CopyFrom(numpy_helper.from_array(changed, stored.name))
    onnx.save(model, folder / "decoder_model.onnx")
    source = load_source(str(base), find_directories({}))
    heard = Heard(clips=make_clips(source.processor.feature_extractor, []), normalizer="raw", language="de")
    form = Form("onnx", "fp32")
    place = r"between model\.encoder\.layer_norm and model\.decoder\.layers\.0\.self_attn_layer_norm"
    with pytest.raises(RunFailed, match=place):
        verify_folder(ready(form).open(folder), source.model, {}, form, heard, str, lambda line: None)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_ggml_is_the_model_in_whisper_cpp(processor_dir: Path, tmp_path: Path, precision: str) -> None:
    pytest.importorskip("pywhispercpp")
    model = make_openai_like(tmp_path / "base", processor_dir)
    folder = convert(str(model), Form("ggml", precision), find_directories({}), output=tmp_path / "x", say=print)
    facts = proven(folder)
    assert facts["logits"]["fraction"] <= facts["logits"]["bound"]
    assert "vocab.json" in {path.name for path in folder.iterdir()}


def test_whisper_cpp_knows_openais_vocabularies_alone(base: Path, run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("convert", base, "--to", "ggml", "--precision", "fp16", "--output", tmp_path / "x")
    assert result.exit_code == 2
    assert "take --to onnx or ctranslate2" in result.output


@pytest.mark.slow
def test_a_jobs_model_is_verified_with_the_clips_of_its_sets(
    make_job: MakeJob, make_manifest: Any, run_cli: RunCli, place: Path
) -> None:
    manifest = str(make_manifest(place / "train" / "list.jsonl"))
    held_out = {"held-out": [{"manifest": str(make_manifest(place / "eval" / "list.jsonl", first=4))}]}
    training = {"max_steps": 1, "global_batch_size": 2}
    job = make_job({"train": [{"manifest": manifest}], "eval": held_out}, training=training)
    assert run_cli("train", job).exit_code in (0, 3)
    result = run_cli("convert", "tiny", "--to", "ctranslate2", "--precision", "int8", "--clips", "2")
    assert result.exit_code == 0, result.output
    facts = proven(place / "models" / "tiny" / "exports" / "ctranslate2-int8")
    assert [name.split(":")[0] for name in facts["clips"]] == ["held-out", "held-out"]
    assert facts["words"]["clips"] == 2
    assert "words: WER" in result.output
