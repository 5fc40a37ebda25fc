"""The JSON schema of job files, for editors."""

import json

from whisper_train.job import Job


def job_schema() -> str:
    """Everything a job file may hold. Nothing is required there: what a file leaves out may come from `extends`."""
    schema = Job.model_json_schema()
    schema["title"] = "whisper-train job"
    schema["properties"]["extends"] = {"type": "string", "description": "a job beside this one, or a path, to build on"}
    for part in (schema, schema["$defs"]["Data"]):
        part.pop("required", None)
    return json.dumps(schema, indent=2) + "\n"
