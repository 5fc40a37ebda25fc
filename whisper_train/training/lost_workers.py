"""What is said of processes that read the data and have died, or hang."""

from typing import Any

from whisper_train.data.workers import describe_hang

WORDS = ("DataLoader worker",)  # torch has no type of its own for it


def is_broken(error: BaseException) -> bool:
    """Whether a connection ended: what a worker leaves that dies while it hands a batch over."""
    no_socket = isinstance(error, FileNotFoundError) and error.filename is None
    return no_socket or isinstance(error, ConnectionError | EOFError)


def describe_lost(error: BaseException, trainer: Any) -> str | None:
    """What happened to a worker, and what to look for; None when `error` is of something else."""
    step = trainer.state.global_step + 1
    if trainer.patience is not None and trainer.patience.is_over:
        hang = describe_hang(trainer.patience.seconds)
        return f"step {step:,}: {hang}; the same command goes on from the newest checkpoint when it is back"
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
    if not said and not (is_broken(error) and trainer.args.dataloader_num_workers):
        return None
    told = str(error).partition("\n")[0].partition(" It is possible")[0].rstrip(". ") or type(error).__name__
    return (
        f"step {step:,}: a process that reads the data has died ({told}); most often the machine had no memory left"
        " (dmesg tells): lower machine.dataloader_num_workers; the same command goes on from the newest checkpoint"
    )
