"""What would make a training fit: single changes, then several, each as the plan itself would compute it."""

from dataclasses import replace
from typing import Any

from tests.conftest import REPOSITORY
from tests.planning.test_estimate import NARROW, setup
from whisper_train.paths import read_json
from whisper_train.planning.estimate import estimate
from whisper_train.planning.setup import Setup
from whisper_train.planning.ways import find_ways

FILES = {path.stem: read_json(path) for path in (REPOSITORY / "jobs" / "deepspeed").glob("*.json")}
ENOUGH = 1e12


def on_card(**how: Any) -> Setup:
    shape = replace(NARROW, width=256, encoder_layers=4, decoder_layers=4)
    return replace(setup(shape, batch=8, **how), card=True, deepspeed=FILES["zero2"], precision="bf16")


def test_single_changes_are_tried_before_several() -> None:
    asked = on_card()
    ways = find_ways(asked, 0.99 * estimate(asked)[0].total, ENOUGH, FILES, {})
    assert all(len(way.settings) == 1 for way in ways)
    fitting = {way.settings[0] for way in ways if way.fits}
    assert "machine.gradient_checkpointing=true" in fitting
    assert "machine.per_device_train_batch_size=1" in fitting


def test_where_no_single_change_does_they_are_put_together() -> None:
    asked = on_card()
    singles = find_ways(asked, ENOUGH, ENOUGH, FILES, {})
    least = min(way.memory.total for way in singles)
    ways = find_ways(asked, least - 1, ENOUGH, FILES, {})
    assert not any(way.fits for way in ways[: len(singles)])
    several = [way for way in ways if len(way.settings) > 1]
    assert several
    assert min(way.memory.total for way in several) < least


def test_what_is_there_already_is_no_way_out() -> None:
    asked = on_card(
        machine={"gradient_checkpointing": True},
        model={"lora": {"rank": 32}},
        training={"optim": "adamw_bnb_8bit"},
    )
    asked = replace(asked, deepspeed=FILES["zero2-offload"])
    settings = [way.settings for way in find_ways(asked, 1.0, ENOUGH, FILES, {})]
    assert settings == [("machine.per_device_train_batch_size=1",)]


def test_ram_that_is_not_there_is_no_way_out_either() -> None:
    offload = "machine.deepspeed=zero2-offload"
    for host, fits in ((ENOUGH, True), (1.0, False)):
        ways = find_ways(on_card(), ENOUGH, host, FILES, {})
        assert next(way for way in ways if offload in way.settings).fits == fits
