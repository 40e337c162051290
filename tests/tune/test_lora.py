"""Adapters against autograd and against PEFT."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empu.checkpoint.adapter import Adapter, LowRank, read_adapter, write_adapter
from empu.errors import UsageError
from empu.model.attention import Packed
from empu.tune.lora import LoraLinear, adapters, attach
from tests.parity.families import transformers_model
from tests.tune.making import tiny_model


def test_an_adapted_layer_has_the_gradients_that_autograd_gives() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(24, 16), torch.randn(7, 16, requires_grad=True)
    layer = LoraLinear(weight, 4, 8.0, torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer.lora_b.normal_()
    wanted_x = x.detach().clone().requires_grad_()
    a, b = (p.detach().clone().requires_grad_() for p in (layer.lora_a, layer.lora_b))
    expected = wanted_x @ weight.t() + 2.0 * (wanted_x @ a.t()) @ b.t()
    out = layer(x)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected.backward(grad)  # type: ignore[no-untyped-call]
    for got, wanted in ((x.grad, wanted_x.grad), (layer.lora_a.grad, a.grad), (layer.lora_b.grad, b.grad)):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.merged(), weight + 2.0 * b.detach() @ a.detach())


def test_attaching_changes_nothing_at_first_and_trains_only_adapters() -> None:
    model = tiny_model()
    plain = copy.deepcopy(model)
    attach(model, rank=4, alpha=4.0, targets=("q", "v", "down"))
    assert {name.rsplit(".", 2)[-2] for name, _ in adapters(model)} == {"q", "v", "down"}
    attend = Packed([5, 9])
    tokens = torch.arange(14)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, attend.positions(), attend), plain(tokens, attend.positions(), attend))
    assert all("lora" in name for name, p in model.named_parameters() if p.requires_grad)
    with pytest.raises(UsageError, match="no layer 'query'"):
        attach(tiny_model(), rank=4, alpha=4.0, targets=("query",))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT about transformers
@pytest.mark.parametrize("family", ["Llama 3", "SmolLM2", "Mistral 7B v0.3"])
def test_peft_loads_our_adapter_and_computes_the_same(family: str, tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    from empu.checkpoint import open_checkpoint
    from empu.engine.backends.protocol import Chunk, Want
    from empu.engine.backends.torch import open_torch

    theirs = transformers_model(family)
    theirs.save_pretrained(tmp_path / "base")
    random = np.random.default_rng(0)
    with open_checkpoint(tmp_path / "base") as checkpoint:
        config = checkpoint.config
        layers = {
            name: LowRank(
                random.normal(size=(4, checkpoint.shape(name)[1])).astype(np.float32) * 0.1,
                random.normal(size=(checkpoint.shape(name)[0], 4)).astype(np.float32) * 0.1,
            )
            for name in checkpoint.names()
            if any(f".{target}." in name for target in ("q", "k", "v", "o", "gate", "up", "down"))
        }
        (tmp_path / "adapter").mkdir()
        write_adapter(tmp_path / "adapter", Adapter(4, 8.0, layers, "base"), config)
        adapter = read_adapter(tmp_path / "adapter", config)
        backend = open_torch(checkpoint).adapted(adapter)
    assert all((adapter.layers[name].b == low.b).all() for name, low in layers.items())
    tokens = random.integers(0, config.vocab_size, 40).astype(np.int32)
    (got,) = backend.forward([Chunk(backend.allocate(40), tokens, Want.ALL)])
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    with torch.inference_mode():
        expected = adapted(torch.from_numpy(tokens).long()[None]).logits[0].numpy()
    assert np.abs(got - expected).max() < 2e-4
