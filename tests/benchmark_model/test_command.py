"""The benchmark of models from the command line: what it refuses, and a whole run of a tiny model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.export.models import make_base
from tests.tiny import write_job
from whisper_train.benchmark_model.candidates import check_current, given_candidates, list_candidates
from whisper_train.benchmark_model.rounds import run_rounds
from whisper_train.benchmark_model.turn import Spec
from whisper_train.errors import UserError
from whisper_train.export.clips import for_batches, of_round
from whisper_train.export.convert import EXPORT
from whisper_train.job import Job
from whisper_train.paths import find_directories

pytest.importorskip("onnxruntime")
pytest.importorskip("ctranslate2")


def make_job(base: Path, **changes: Any) -> Job:
    sets = {"train": [{"manifest": "a.jsonl"}], "eval": {"held-out": [{"manifest": "b.jsonl"}]}}
    return Job.model_validate({"name": "own", "language": "de", "base": str(base), "data": sets, **changes})


def test_a_job_without_a_model_is_refused(run_cli: RunCli, place: Path) -> None:
    result = run_cli("benchmark-model", write_job(place), "--machine", "cpu")
    assert result.exit_code == 2, result.output
    assert "tiny: has no model yet in models/tiny; train it (make train EXP=tiny)" in result.output


def test_a_set_that_the_job_lacks_is_refused(run_cli: RunCli, place: Path) -> None:
    result = run_cli("benchmark-model", write_job(place), "--machine", "cpu", "--sets", "other")
    assert result.exit_code == 2
    assert "--sets: other: no such set; data.eval has held-out" in result.output


def test_a_folder_that_is_no_export_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        given_candidates([tmp_path / "nothing"])
    with pytest.raises(UserError, match="is named twice"):
        given_candidates([base, base])
    (tmp_path / "encoder_model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"has no export\.json; convert the model"):
        given_candidates([tmp_path])


def test_an_export_of_another_model_is_refused(base: Path, place: Path) -> None:
    job = make_job(base, quantization=None)
    shutil.copytree(base, place / "models" / "own")
    found = list_candidates(job, find_directories({}))
    folder = Path(found[2].folder)
    assert (found[2].name, folder) == ("onnx fp32", place / "models" / "own" / "exports" / "onnx-fp32")
    folder.mkdir(parents=True)
    (folder / EXPORT).write_text(json.dumps({"source_digest": "another"}))
    with pytest.raises(UserError, match=r"was converted of another model than .* holds now; remove that folder"):
        check_current(found[2], base)


def test_a_quantized_job_is_compared_with_its_base_rounded(base: Path, place: Path) -> None:
    job = make_job(base, quantization={"scheme": "int4", "target": "onnx"})
    shutil.copytree(base, place / "models" / "own")
    found = {one.name: Path(one.folder) for one in list_candidates(job, find_directories({}))}
    assert next(iter(found)) == "transformers fp32"
    assert found["transformers fp32"] == base
    assert found["onnx int4 post-training"] == place / "models" / base.name / "exports" / "onnx-int4"
    assert found["onnx int4 QAT"] == place / "models" / "own" / "exports" / "onnx-int4"
    assert "onnx int8 QAT" not in found
    with pytest.raises(UserError, match="base: new: there is no float model to compare with"):
        list_candidates(job.model_copy(update={"base": "new"}), find_directories({}))


def test_every_clip_is_heard_in_one_round() -> None:
    from whisper_train.export.clips import ClipSet

    sets = [
        ClipSet(name=name, index="", digest="", columns=[], augment=None, positions=positions)
        for name, positions in (("a", [0, 5, 9]), ("b", [2, 3]))
    ]
    heard = [clip for number in range(3) for clip in of_round(sets, number, 3)]
    assert sorted(heard) == [("a", 0), ("a", 5), ("a", 9), ("b", 2), ("b", 3)]
    assert for_batches([1, 2, 3], 5) == [1, 2, 3, 1, 2]
    assert for_batches(range(100), 3) == [0, 50, 99]


def make_spec(base: Path, **changes: Any) -> Spec:
    facts = {"name": "float", "format": "transformers", "precision": "fp32", "folder": str(base)}
    return Spec(**{**facts, "processor": str(base), "threads": 1, "repeats": 1, "language": "de", **changes})


@pytest.mark.slow
def test_one_that_fails_is_told_and_the_others_go_on(base: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(base, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    said: list[str] = []
    specs = [make_spec(broken, name="broken"), make_spec(base)]
    found = run_rounds(specs, 2, tmp_path, said.append)
    assert "failed" in found["broken"]
    assert [line.partition(": ")[0] for line in said] == ["round 1 of 2", "round 1 of 2", "round 2 of 2"]
    turns = found["float"]["turns"]
    assert len(turns) == 2
    assert all(turn["encoder_ms"][0] > 0 and turn["decoder_ms"][0] > 0 for turn in turns)
    assert turns[0]["peak_bytes"]["1"] > turns[0]["libraries_bytes"] > 0


@pytest.mark.slow
def test_a_whole_run(run_cli: RunCli, place: Path) -> None:
    """Every runtime, both with the job's own files and with folders that are named."""
    base = make_base(place / "base")
    job = write_job(place, base=str(base), architecture=None, data={"train": []})
    options = ("--machine", "cpu", "--max-samples", "4", "--rounds", "1", "--threads", "1")
    result = run_cli("benchmark-model", job, *options)
    assert result.exit_code == 0, result.output
    folder = place / "models" / "tiny" / "benchmark"
    results = json.loads((folder / "results.json").read_text())
    assert [one["name"] for one in results["candidates"] if "failed" in one] == []
    assert len(results["candidates"]) == 9
    sizes = {one["name"]: one["size_bytes"] for one in results["candidates"]}
    assert sizes["transformers bf16"] < 0.6 * sizes["transformers fp32"]
    floats = [one for one in results["candidates"] if one["precision"] == "fp32"]
    assert {one["wer"] for one in floats} == {floats[0]["wer"]}  # the same model writes the same
    assert set(floats[0]["real_time_factor"]) == {"1", "8", "16"}
    assert (folder / "benchmark.png").stat().st_size > 10_000
    lines = (folder / "transcriptions.jsonl").read_text().splitlines()
    assert len(lines) == 9 * sum(one["clips"] for one in results["sets"].values())

    export = place / "models" / "base" / "exports" / "ctranslate2-int8"
    again = run_cli("benchmark-model", job, base, export, *options)
    assert again.exit_code == 0, again.output
    names = [one["name"] for one in json.loads((folder / "results.json").read_text())["candidates"]]
    assert names == ["transformers fp32 (base)", "ctranslate2 int8 post-training (base)"]
