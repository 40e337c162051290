"""Open the models of a run for inference."""

from __future__ import annotations

from pathlib import Path

from empu.engine.language_model import LanguageModel, open_model
from empu.specialist.plan import TunePlan
from empu.specialist.request import TuneRequest


def open_run_model(plan: TunePlan, request: TuneRequest, folder: Path | None) -> LanguageModel:
    """Open the base model, or the specialist in ``folder``."""
    if folder is not None and plan.recipe.method == "full":
        return open_model(folder, engine=request.engine, threads=request.threads)
    return open_model(plan.base.path, adapter=folder, engine=request.engine, threads=request.threads)
