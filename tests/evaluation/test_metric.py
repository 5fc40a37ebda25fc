"""Users of `evaluate` get the program's own numbers, offline, and nothing is left on their disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_train.evaluation.score import count_pairs

ROOT = Path(__file__).parents[2]
REFERENCES = ["Der Mann sucht den Apfel.", "Ja!", "Die Frau kauft ein Buch."]
PREDICTIONS = ["der Mann sucht Apfel", "ja ja", "Die Frau kauft kein Buch"]

PROGRAM = """
import evaluate, json
from whisper_train.evaluation.metric import SpeechErrors
references, predictions = {references!r}, {predictions!r}
batched = SpeechErrors("whisper-basic")
for reference, prediction in zip(references, predictions):
    batched.add_batch(references=[reference], predictions=[prediction])
both = evaluate.combine({{"raw": SpeechErrors("raw"), "basic": SpeechErrors()}})
print(json.dumps([
    SpeechErrors("whisper-basic").compute(predictions=predictions, references=references),
    batched.compute(),
    both.compute(predictions=predictions, references=references),
]))
"""


def test_wrong_input_is_named() -> None:
    from whisper_train.evaluation.metric import SpeechErrors

    with pytest.raises(ValueError, match="unknown normalizer germn; there are raw, whisper-basic"):
        SpeechErrors("germn")
    with pytest.raises(ValueError, match="no texts to score"):
        SpeechErrors().compute()
    with pytest.raises(ValueError, match="Mismatch"):
        SpeechErrors().compute(predictions=["ja"], references=["ja", "nein"])


def test_evaluate_gives_the_same_numbers_offline_and_writes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HOME": str(home)}
    environment |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    program = PROGRAM.format(references=REFERENCES, predictions=PREDICTIONS)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    at_once, batched, combined = json.loads(done.stdout)
    scored = count_pairs(list(zip(REFERENCES, PREDICTIONS, strict=True)), ["raw", "whisper-basic"])
    words = scored["whisper-basic"].words
    assert at_once == batched
    assert at_once == {
        "wer": words.rate,
        "cer": scored["whisper-basic"].characters.rate,
        "mer": words.mer,
        "wil": words.wil,
        "hits": 9,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 1,
        "words": 11,
    }
    assert combined["basic_wer"] == words.rate
    assert combined["raw_wer"] == scored["raw"].words.rate
    assert list(home.rglob("*")) == []


def test_nothing_in_the_package_brings_evaluate_along() -> None:
    using = [
        path.name
        for path in (ROOT / "whisper_train").rglob("*.py")
        if path.name != "metric.py" and "evaluation.metric" in path.read_text(encoding="utf-8")
    ]
    assert using == []
