"""The registry opens models on first use, shares base models and closes what is unused."""

from __future__ import annotations

import asyncio
from pathlib import Path

from empu.serving.registry import ModelLocation, ModelRegistry
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
