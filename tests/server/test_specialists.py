"""Specialists of one base model share its weights and its scheduler."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

from empu.engine.sampling import SamplingParams
from tests.server.running_server import start_server
from tests.serving.specialists import ADDED_AT, make_locations, open_base


def test_specialists_of_one_base_answer_in_one_batch_as_each_does_alone(tmp_path: Path) -> None:
    locations = make_locations(tmp_path / "adapters")
    alone = {}
    for name, location in locations.items():
        model = open_base("base") if location.adapter is None else open_base("base").with_adapter(location.adapter)
        params = SamplingParams(temperature=0, max_tokens=40)
        alone[name] = model.stream([{"role": "user", "content": "abc"}], params).completion.text
    assert len(set(alone.values())) == 3
    server = start_server(tmp_path, open_model=open_base, names=ADDED_AT, locate=locations.__getitem__)
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

    names = list(ADDED_AT) * 4
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, names))
    assert answers == [alone[name] for name in names]
    assert len(server.state.registry.engines) == 1
    client.close()
    server.stop()
