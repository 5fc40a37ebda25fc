"""What each way's process is told: the same for all, but for what makes the way."""

import os
from dataclasses import replace

from benchmarks.training.material import Material
from benchmarks.training.options import Options
from benchmarks.training.running import Spec
from benchmarks.training.ways import WAYS

PRECISION = {"cpu": "fp32", "cuda": "bf16"}


def make_specs(options: Options, material: Material) -> dict[str, Spec]:
    """By way, in the order in which they were asked for."""
    stock = Spec(
        way="stock",
        base=material.base,
        train=material.train,
        held_out=material.held_out,
        held_out_index=material.held_out_index,
        language=options.language,
        device=options.device,
        precision=PRECISION[options.device],
        global_batch=options.batch_clips,
        device_batch=options.device_batch,
        learning_rate=options.learning_rate,
        warmup_updates=options.warmup_updates,
        gradient_checkpointing=options.gradient_checkpointing,
        threads=len(os.sched_getaffinity(0)),
        seed=options.seed,
        data={},
        profile="cpu" if options.device == "cpu" else "80gb",
    )
    return {
        way: replace(
            stock,
            way=way,
            data=WAYS[way].data,
            global_batch=material.windows_an_update(WAYS[way], options.batch_clips, options.seed),
            phases={},
        )
        for way in options.ways
    }
