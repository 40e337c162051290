"""Specialists of one base: one model in memory, one scheduler, and each request with its own adapter."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from empu.checkpoint.adapter import write_adapter
from empu.config import ModelConfig
from empu.engine.backends.native import open_native
from empu.engine.language_model import LanguageModel
from empu.engine.sampling import SamplingParams
from empu.serving.registry import Catalogue, Place
from empu.text.base import Text
from empu.text.templates.jinja import JinjaTemplate
from tests.engine.letters import Letters
from tests.engine.native_reference import random_checkpoint
from tests.engine.test_adapters import random_adapter
from tests.server.serving import TEMPLATE, start

LETTERS = Letters()
SHAPE = ModelConfig(
    n_layers=2, dim=64, n_heads=4, n_kv_heads=2, head_dim=16, ffn_dim=128, vocab_size=LETTERS.vocab_size
)
NAMES = {"base": 1, "one": 2, "two": 3}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Place]:
    checkpoint = random_checkpoint(SHAPE, "Q8_0")
    places = {"base": Place("base")}
    for seed, name in enumerate(("one", "two")):
        folder = tmp_path / name
        folder.mkdir()
        write_adapter(folder, random_adapter(checkpoint, seed), SHAPE)
        places[name] = Place("base", folder)
    return places


def opener(name: str) -> LanguageModel:
    backend = open_native(random_checkpoint(SHAPE, "Q8_0"), threads=1)
    text = Text(LETTERS, JinjaTemplate(TEMPLATE, {}, name), add_bos=True)
    return LanguageModel(backend, text, checkpoint_path=Path(name), context=256)


def test_they_answer_side_by_side_as_each_does_alone(tmp_path: Path, places: dict[str, Place]) -> None:
    alone = {}
    for name, place in places.items():
        model = opener("base") if place.adapter is None else opener("base").specialist(place.adapter)
        params = SamplingParams(temperature=0, max_tokens=40)
        alone[name] = model.stream([{"role": "user", "content": "abc"}], params).completion.text
    assert len(set(alone.values())) == 3
    server = start(tmp_path, opener=opener, names=NAMES, place=places.__getitem__)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)

    def ask(name: str) -> str | None:
        messages = [{"role": "user", "content": "abc"}]
        answer = client.chat.completions.create(
            model=name,
            messages=messages,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=40,
        )
        return answer.choices[0].message.content

    asked = list(NAMES) * 4
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, asked))
    assert answers == [alone[name] for name in asked]
    assert len(server.context.catalogue.engines) == 1
    client.close()
    server.stop()


def test_the_specialist_unused_for_longest_makes_room(places: dict[str, Place]) -> None:
    async def visit() -> None:
        catalogue = Catalogue(lambda: NAMES, opener, place=places.__getitem__, most_specialists=1)
        base, one = await catalogue.get("base"), await catalogue.get("one")
        assert one.engine is base.engine
        assert await catalogue.get("one") is one
        await catalogue.get("two")
        assert await catalogue.get("base") is base
        assert await catalogue.get("one") is not one
        await catalogue.close(drain=False)

    asyncio.run(visit())


def test_a_name_that_means_another_model_now_is_opened_anew(places: dict[str, Place]) -> None:
    meanings = {"base": "0", "one": "1"}
    moved = dict(places)

    async def visit() -> None:
        catalogue = Catalogue(lambda: NAMES, opener, place=moved.__getitem__, meaning=meanings.get)
        base, one = await catalogue.get("base"), await catalogue.get("one")
        assert await catalogue.get("one") is one
        moved["one"], meanings["one"] = places["two"], "2"
        now = await catalogue.get("one")
        assert now is not one
        assert now.engine is one.engine
        assert now is await catalogue.get("one")
        moved["one"], meanings["one"] = Place("another"), "3"
        moved["base"], meanings["base"] = Place("another"), "3"
        assert (await catalogue.get("one")).engine is not base.engine
        await catalogue.get("base")
        assert [engine.key for engine in catalogue.engines] == ["another"]
        await catalogue.close(drain=False)

    asyncio.run(visit())
