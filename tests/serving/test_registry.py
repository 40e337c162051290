"""The registry opens models on first use, shares base models and closes what is unused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from empu.engine.language_model import LanguageModel
from empu.members.classifier import LabelClassifier
from empu.members.ensemble import Ensemble
from empu.members.files import read_ensemble, write_ensemble
from empu.members.fitting import fit_tfidf
from empu.serving.registry import ModelLocation, ModelRegistry
from empu.text.task import TASK_FILE, Task
from tests.members.samples import LABELS, TARGETS, TEXTS
from tests.serving.specialists import ADDED_AT, make_locations, open_base


def test_the_least_recently_used_specialist_is_closed(tmp_path: Path) -> None:
    locations = make_locations(tmp_path)

    async def run() -> None:
        registry = ModelRegistry(lambda: ADDED_AT, open_base, locate=locations.__getitem__, max_specialists=1)
        base, one = await registry.get("base"), await registry.get("one")
        assert one.engine is base.engine
        assert await registry.get("one") is one
        await registry.get("two")
        assert await registry.get("base") is base
        assert await registry.get("one") is not one
        await registry.close(drain=False)

    asyncio.run(run())


def test_a_name_with_a_new_revision_is_opened_again(tmp_path: Path) -> None:
    locations = make_locations(tmp_path)
    revisions = {"base": "0", "one": "1"}
    current_locations = dict(locations)

    async def run() -> None:
        registry = ModelRegistry(
            lambda: ADDED_AT, open_base, locate=current_locations.__getitem__, revision=revisions.get
        )
        base, one = await registry.get("base"), await registry.get("one")
        assert await registry.get("one") is one
        current_locations["one"], revisions["one"] = locations["two"], "2"
        reopened = await registry.get("one")
        assert reopened is not one
        assert reopened.engine is one.engine
        assert reopened is await registry.get("one")
        current_locations["one"], revisions["one"] = ModelLocation("another"), "3"
        current_locations["base"], revisions["base"] = ModelLocation("another"), "3"
        assert (await registry.get("one")).engine is not base.engine
        await registry.get("base")
        assert [engine.key for engine in registry.engines] == ["another"]
        await registry.close(drain=False)

    asyncio.run(run())


def test_a_label_specialist_of_several_members_answers_with_all_of_them(tmp_path: Path) -> None:
    locations = make_locations(tmp_path)
    folder = locations["one"].adapter
    assert folder is not None
    (folder / TASK_FILE).write_text(json.dumps(Task("label", "Name it.", LABELS).to_json()))
    tfidf = fit_tfidf(TEXTS, TARGETS, len(LABELS))
    write_ensemble(folder, Ensemble(LABELS, {"tfidf": tfidf}, {"lm": 0.1, "tfidf": 2.0}))

    def open_members(model: LanguageModel, specialist: Path) -> LabelClassifier:
        return LabelClassifier(model, read_ensemble(specialist, list))

    async def run() -> None:
        registry = ModelRegistry(
            lambda: ADDED_AT, open_base, locate=locations.__getitem__, open_classifier=open_members
        )
        served = await registry.get("one")
        answers = await asyncio.gather(*(served.classify(text, 2) for text in TEXTS[::10]))
        assert [ranked[0].label for ranked, _, _ in answers] == [LABELS[target] for target in TARGETS[::10]]
        assert all(len(ranked) == 2 and prompt > 0 and answer > 0 for ranked, prompt, answer in answers)
        assert (await registry.get("base")).classifier is None
        await registry.close(drain=True)

    asyncio.run(run())
