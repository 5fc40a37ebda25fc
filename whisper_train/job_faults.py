"""The `faults:` section of a job: what a run does when something goes wrong that it could go on from."""

from typing import Literal

from pydantic import Field

from whisper_train.strict import Strict


class Faults(Strict):
    full_disk: Literal["wait", "stop"] = Field(
        "wait", description="no room for the next checkpoint: wait until there is, or leave with status 1"
    )
    bad_loss: Literal["stop", "rollback"] = Field(
        "stop", description="a loss that is no number or explodes: leave, or go back with half the learning rate"
    )
    batch_timeout: int = Field(
        600, gt=0, description="seconds that training and evaluation wait for a batch of their data workers"
    )
