"""Resolved jobs in run folders of earlier versions: the same job in today's keys."""

from pathlib import Path
from typing import Any

import yaml


def read_resolved(path: Path) -> dict[str, Any]:
    """The values of the job that a run left in its folder, whichever version of this program wrote them."""
    return in_todays_keys(yaml.safe_load(path.read_text(encoding="utf-8")))


def in_todays_keys(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with what has moved: model.freeze_encoder to model.freeze; what gates.long_form measured."""
    values = {**values, **{name: dict(values[name]) for name in ("model", "gates", "evaluation") if values.get(name)}}
    model, gates = values.get("model", {}), values.get("gates", {})
    if "freeze_encoder" in model:
        model["freeze"] = ["encoder"] if model.pop("freeze_encoder") else []
    if (asked := gates.get("long_form")) and "minutes" in asked:
        gates["long_form"] = {"max_worse": asked["max_worse"]}
        values["evaluation"]["long_form"] = {name: asked[name] for name in ("minutes", "seconds")}
    return values
