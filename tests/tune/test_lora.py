"""Adapters against autograd and against PEFT."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empu.checkpoint.lora_adapter import LoraAdapter, LoraWeights, read_adapter, write_adapter
from empu.errors import UsageError
from empu.model.packed_documents import PackedDocuments
from empu.tune.lora import LoraConfig, LoraLinear, attach_lora, lora_layers
from tests.parity.families import transformers_model
from tests.tune.samples import tiny_model


def test_an_adapted_layer_has_the_gradients_of_autograd() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(24, 16), torch.randn(7, 16, requires_grad=True)
    layer = LoraLinear(weight, LoraConfig(4, 8.0), torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer.lora_b.normal_()
    expected_x = x.detach().clone().requires_grad_()
    a, b = (p.detach().clone().requires_grad_() for p in (layer.lora_a, layer.lora_b))
    expected = expected_x @ weight.t() + 2.0 * (expected_x @ a.t()) @ b.t()
    out = layer(x)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected.backward(grad)  # type: ignore[no-untyped-call]
    for actual, reference in ((x.grad, expected_x.grad), (layer.lora_a.grad, a.grad), (layer.lora_b.grad, b.grad)):
        torch.testing.assert_close(actual, reference, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.merged(), weight + 2.0 * b.detach() @ a.detach())


def test_new_adapters_change_no_output_and_only_they_are_trained() -> None:
    model = tiny_model()
    plain = copy.deepcopy(model)
    attach_lora(model, LoraConfig(4, 4.0, ("q", "v", "down")))
    assert {name.rsplit(".", 2)[-2] for name, _ in lora_layers(model)} == {"q", "v", "down"}
    documents = PackedDocuments([5, 9])
    tokens = torch.arange(14)
    with torch.no_grad():
        expected = plain(tokens, documents.positions(), documents)
        torch.testing.assert_close(model(tokens, documents.positions(), documents), expected)
    assert all("lora" in name for name, p in model.named_parameters() if p.requires_grad)
    with pytest.raises(UsageError, match="no layer 'query'"):
        attach_lora(tiny_model(), LoraConfig(4, 4.0, ("query",)))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT about transformers
@pytest.mark.parametrize("family", ["Llama 3", "SmolLM2", "Mistral 7B v0.3"])
def test_peft_loads_our_adapter_and_computes_the_same(family: str, tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    from empu.checkpoint import open_checkpoint
    from empu.engine.backends.protocol import Chunk, LogitsNeeded
    from empu.engine.backends.torch import open_torch

    reference_model = transformers_model(family)
    reference_model.save_pretrained(tmp_path / "base")
    rng = np.random.default_rng(0)
    with open_checkpoint(tmp_path / "base") as checkpoint:
        config = checkpoint.config
        layers = {
            name: LoraWeights(
                rng.normal(size=(4, checkpoint.shape(name)[1])).astype(np.float32) * 0.1,
                rng.normal(size=(checkpoint.shape(name)[0], 4)).astype(np.float32) * 0.1,
            )
            for name in checkpoint.names()
            if any(f".{target}." in name for target in ("q", "k", "v", "o", "gate", "up", "down"))
        }
        (tmp_path / "adapter").mkdir()
        write_adapter(tmp_path / "adapter", LoraAdapter(4, 8.0, layers, "base"), config)
        adapter = read_adapter(tmp_path / "adapter", config)
        backend = open_torch(checkpoint).with_adapter(adapter)
    assert all((adapter.layers[name].b == low.b).all() for name, low in layers.items())
    tokens = rng.integers(0, config.vocab_size, 40).astype(np.int32)
    (logits,) = backend.forward([Chunk(backend.allocate(40), tokens, LogitsNeeded.ALL)])
    adapted = peft.PeftModel.from_pretrained(reference_model, tmp_path / "adapter")
    with torch.inference_mode():
        expected = adapted(torch.from_numpy(tokens).long()[None]).logits[0].numpy()
    assert np.abs(logits - expected).max() < 2e-4
