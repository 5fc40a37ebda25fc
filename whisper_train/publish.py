"""Puts a finished model on the Hugging Face hub."""

from whisper_train.errors import RunFailed
from whisper_train.job import Job
from whisper_train.run_folder import RunFolder

# What stays at home: checkpoints, data indexes with people's transcripts, locks.
PRIVATE = ["checkpoints/*", "data/*", "base/*", "evaluation/*.jsonl", ".*"]


def push(job: Job, folder: RunFolder) -> str:
    """Uploads the model and its proof as training.hub_model_id (or the job's name); returns the repository's address.

    The token is HF_TOKEN of the environment. Raises RunFailed when the hub refuses; the model stays on the disk.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    settings = job.training
    try:
        repository = hub.create_repo(
            settings.get("hub_model_id") or job.name, private=settings.get("hub_private_repo"), exist_ok=True
        )
        hub.upload_folder(
            repo_id=repository.repo_id,
            folder_path=folder.path,
            ignore_patterns=PRIVATE,
            revision=settings.get("hub_revision"),
            commit_message=f"{job.name}, trained with whisper-train",
        )
    except Exception as error:
        raise RunFailed(f"the model is whole in {folder.path}, but the hub refused it: {error}") from error
    return str(repository)
