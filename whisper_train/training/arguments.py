"""Job and machine profile -> Seq2SeqTrainingArguments."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import display, find_file
from whisper_train.machine import Layout, choose_precision
from whisper_train.paths import read_json
from whisper_train.training_settings import OWN_KEYS

# Handled by this program's own checkpoints, best-model keeping, TensorBoard writer and publishing.
HANDLED = ("load_best_model_at_end", "save_total_limit", "report_to", "push_to_hub")
GREATER_IS_BETTER = ("macro_f1",)


def deepspeed_file(job: Job, config_dir: Path) -> Path | None:
    """The DeepSpeed file that the machine profile names; raises UserError when there is none of that name."""
    if job.machine.deepspeed is None:
        return None
    folder = config_dir / "deepspeed"
    path = find_file(job.machine.deepspeed, [folder], ".json")
    if path is None:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.json")))
        raise UserError(
            f"machine.deepspeed: {job.machine.deepspeed}: no such file in {display(folder)}; there are {known}"
        )
    try:
        stage = read_json(path).get("zero_optimization", {}).get("stage", 0)
    except (ValueError, AttributeError) as error:
        raise UserError(f"{display(path)}: is not a DeepSpeed configuration in JSON") from error
    if stage == 3:
        raise UserError(f"{display(path)}: zero_optimization.stage: 3: weights must be whole on each rank; use 2")
    return path


def use_compiled_adam(deepspeed: dict[str, Any]) -> dict[str, Any]:
    """The DeepSpeed configuration with DeepSpeed's own Adam for optimizer states in RAM, where it was compiled ahead.

    docker/Dockerfile does. Elsewhere torch's AdamW runs on the processor: slower, but it needs no compiler.
    """
    if deepspeed.get("zero_optimization", {}).get("offload_optimizer", {}).get("device") != "cpu":
        return deepspeed
    compiled = find_spec("deepspeed.ops.adam.cpu_adam_op") is not None
    return {**deepspeed, "zero_force_ds_cpu_optimizer": compiled}


def make_arguments(job: Job, layout: Layout, folder: Path, deepspeed: dict[str, Any] | None) -> Any:
    """The arguments of the trainer; raises UserError for a value that transformers refuses."""
    import torch
    from transformers import Seq2SeqTrainingArguments

    precision = choose_precision(job)
    given = {key: value for key, value in job.training.items() if key not in OWN_KEYS and key not in HANDLED}
    checkpointing = job.machine.gradient_checkpointing
    for key in ("gradient_checkpointing", "activation_checkpointing"):
        if given.pop(key, None) is not None:
            checkpointing = bool(job.training[key])
    values: dict[str, Any] = {
        "dataloader_num_workers": job.machine.dataloader_num_workers,
        "per_device_eval_batch_size": job.machine.per_device_eval_batch_size,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "metric_for_best_model": "wer",
        **given,
        "output_dir": str(folder / "checkpoints"),
        "per_device_train_batch_size": layout.per_device,
        "gradient_accumulation_steps": layout.accumulation,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "activation_checkpointing": checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if checkpointing else None,
        "use_cpu": not torch.cuda.is_available(),
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "report_to": check_reporters([name for name in report_to(job) if name != "tensorboard"]),
        "deepspeed": deepspeed,
    }
    greater = values["metric_for_best_model"].removeprefix("eval_") in GREATER_IS_BETTER
    values.setdefault("greater_is_better", greater)
    if values["greater_is_better"] is not greater:
        raise UserError(
            f"training.greater_is_better: {str(not greater).lower()}: wer, cer and loss are better when smaller,"
            " macro_f1 when greater; leave it out"
        )
    try:
        arguments = Seq2SeqTrainingArguments(**values)
    except (ValueError, TypeError, ImportError, KeyError) as error:
        raise UserError(f"training: {str(error).strip().splitlines()[0]}") from error
    check_buildable(arguments)
    return arguments


def compute_dtype(arguments: Any) -> Any:
    """The torch type that matrices are multiplied in."""
    import torch

    return torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else torch.float32


def check_buildable(arguments: Any) -> None:
    """Tries what the trainer builds only after the data are read; raises UserError naming the key at fault."""
    import torch
    from accelerate.utils import DynamoBackend
    from transformers import Trainer, get_scheduler
    from transformers.utils import is_liger_kernel_available

    optimizer = getattr(arguments.optim, "value", arguments.optim)
    if "bnb" in optimizer and find_spec("bitsandbytes") is None:
        raise UserError(f"training.optim: {optimizer}: needs bitsandbytes: pip install 'whisper-train[low-memory]'")
    model = torch.nn.Linear(1, 1, device="meta")  # draws no random number
    plain = torch.optim.SGD(model.parameters())
    schedule = {"num_warmup_steps": 0, "num_training_steps": 1_000_000}
    attempts: list[tuple[str, Callable[[], Any]]] = [
        ("optim", lambda: Trainer.get_optimizer_cls_and_kwargs(arguments, model)),
        (
            "lr_scheduler_type",
            lambda: get_scheduler(
                arguments.lr_scheduler_type, plain, **schedule, scheduler_specific_kwargs=arguments.lr_scheduler_kwargs
            ),
        ),
        ("torch_compile_backend", lambda: DynamoBackend((arguments.torch_compile_backend or "no").upper())),
    ]
    if arguments.optim_target_modules is not None:
        attempts.pop(0)  # these optimizers look for modules of the real model
    for key, attempt in attempts:
        try:
            attempt()
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            raise UserError(f"training.{key}: {str(error).strip().splitlines()[0]}") from error
    if arguments.use_liger_kernel and not is_liger_kernel_available():
        raise UserError("training.use_liger_kernel: true: needs liger-kernel: pip install liger-kernel")


def check_reporters(names: list[str]) -> list[str]:
    """`names`, of tools that transformers reports to; raises UserError for one it does not know or that is missing."""
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    available = ["all", *get_available_reporting_integrations()]
    if missing := [name for name in names if name not in available]:
        raise UserError(
            f"training.report_to: {missing[0]}: is not known or not installed; there are {', '.join(available)}"
        )
    return names


def report_to(job: Job) -> list[str]:
    """Where metrics go besides the log: tensorboard, or what transformers knows (wandb, mlflow …)."""
    value = job.training.get("report_to") or []
    names = [value] if isinstance(value, str) else [str(name) for name in value]
    return [] if "none" in names else names
