"""Text that nobody said is found by its loops and its length, and real speech is left alone."""

import math

import pytest

from whisper_train.evaluation.hallucination import find_hallucinations, has_loop, heard_in_silence, is_too_long

THANKS = "Vielen Dank fürs Zuschauen!"


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        find_hallucinations(["ja", "nein"], ["ja"], [1.0, 1.0])


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("Danke.", " ".join([THANKS] * 3)),
        ("Thank you.", "you you you you"),
        ("", "You, you. You... you!"),
        ("", "Untertitel der Amara.org-Community " * 4),
        ("Der Ofen ist heiß.", "Ich werde das jetzt für ungefähr zehn Minuten in den Ofen stellen. " * 3),
        ("Ja ja ja.", "ja " * 40),
        ("Ha.", "Hahahahahahahahahahahaha"),
        ("Hm.", "Hmmmmmmmmmmmmmmmmmmmmmm"),
        ("Ha.", "Ha-ha-ha-ha-ha-ha"),
        ("今日は", "ご視聴ありがとうございました" * 3),
        ("你好", "谢谢观看谢谢观看谢谢观看谢谢观看"),
        ("สวัสดี", "ขอบคุณครับ" * 5),
    ],
)
def test_loops_are_found(reference: str, hypothesis: str) -> None:
    assert has_loop(reference, hypothesis)


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("", ""),
        ("Guten Tag.", ""),
        ("Danke.", THANKS),
        ("Ja.", "Ja, ja, ja."),
        ("Nein nein nein nein nein!", "nein nein nein nein nein"),
        ("Null null null null null sieben", "0 0 0 0 0 7"),
        ("Sie sagt, dass das das Buch ist, das das Kind sucht.", "Sie sagt das das das Buch ist das das Kind sucht"),
        ("Hundert Millionen Euro", "100000000 Euro"),
        ("Donaudampfschifffahrtsgesellschaft", "Donaudampfschiffahrtsgesellschaft"),
        ("Bis bald.", "Bis bald, bis bald, bis bald."),
    ],
)
def test_real_speech_is_no_loop(reference: str, hypothesis: str) -> None:
    assert not has_loop(reference, hypothesis)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "seconds", "expected"),
    [
        ("Ja.", THANKS, 0.5, True),
        ("Ja.", THANKS, 1.0, False),
        (THANKS, THANKS, 0.5, False),
        ("はい", "ご視聴ありがとうございました", 1.0, True),
        ("はい", "ご視聴ありがとうございました", 2.0, False),
        ("Ja.", THANKS, math.nan, False),
        ("", "", 0.0, False),
    ],
)
def test_what_nobody_can_say_in_the_time_is_too_long(
    reference: str, hypothesis: str, seconds: float, expected: bool
) -> None:
    assert is_too_long(reference, hypothesis, seconds) is expected


def test_a_clip_with_both_counts_once() -> None:
    found = find_hallucinations(["Ja.", "Ja.", "Ja.", "Ja."], ["Ja.", "ja " * 50, THANKS, "Ja."], [1.0, 1.0, 0.3, 1.0])
    assert (found.loops, found.too_long, found.clips) == ([1], [1, 2], [1, 2])
    assert found.as_dict() == {"loops": 1, "too_long": 2, "clips": 2, "share": 0.5}


def test_no_clips_hallucinate_nothing() -> None:
    assert find_hallucinations([], [], []).as_dict() == {"loops": 0, "too_long": 0, "clips": 0, "share": 0.0}
    assert heard_in_silence([], [])["words_per_minute"] == 0.0


def test_words_in_silence_are_counted_per_minute_of_audio() -> None:
    heard = heard_in_silence(["", THANKS, " ... ♪♪", "ご視聴"], [10.0, 10.0, 5.0, 5.0])
    assert heard == {"clips": 4, "seconds": 30.0, "words": 6, "words_per_minute": 12.0}
