"""A tiny base model with two specialists, for tests of serving and server."""

from __future__ import annotations

from pathlib import Path

from empu.checkpoint.lora_adapter import write_adapter
from empu.config import ModelConfig
from empu.engine.backends.native import open_native
from empu.engine.language_model import LanguageModel
from empu.serving.registry import ModelLocation
from empu.text.base import TextProcessor
from empu.text.templates.jinja import JinjaTemplate
from tests.engine.backends.memory_checkpoint import random_checkpoint
from tests.engine.backends.test_adapters import random_adapter
from tests.engine.byte_tokenizer import ByteTokenizer
from tests.server.running_server import TEMPLATE

TOKENIZER = ByteTokenizer()
CONFIG = ModelConfig(
    n_layers=2, dim=64, n_heads=4, n_kv_heads=2, head_dim=16, ffn_dim=128, vocab_size=TOKENIZER.vocab_size
)
ADDED_AT = {"base": 1, "one": 2, "two": 3}


def make_locations(folder: Path) -> dict[str, ModelLocation]:
    checkpoint = random_checkpoint(CONFIG, "Q8_0")
    locations = {"base": ModelLocation("base")}
    for seed, name in enumerate(("one", "two")):
        adapter = folder / name
        adapter.mkdir(parents=True)
        write_adapter(adapter, random_adapter(checkpoint, seed), CONFIG)
        locations[name] = ModelLocation("base", adapter)
    return locations


def open_base(name: str) -> LanguageModel:
    backend = open_native(random_checkpoint(CONFIG, "Q8_0"), threads=1)
    text = TextProcessor(TOKENIZER, JinjaTemplate(TEMPLATE, {}, name), add_bos=True)
    return LanguageModel(backend, text, checkpoint_path=Path(name), context_length=256)
