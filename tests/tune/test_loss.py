"""The loss from hidden states against PyTorch's own over all logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from empu.tune.cross_entropy import ROWS, cross_entropy

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("count", [1, ROWS, 2 * ROWS + 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("trained", [False, True], ids=["frozen output", "trained output"])
def test_losses_and_gradients_are_pytorchs(count: int, smoothing: float, trained: bool) -> None:
    generator = torch.Generator().manual_seed(count)
    weight = torch.randn(301, 24, generator=generator).requires_grad_(trained)
    hidden = (3 * torch.randn(count, 24, generator=generator)).requires_grad_()
    targets = torch.randint(301, (count,), generator=generator)
    shares = torch.rand(count, generator=generator)
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="none", label_smoothing=smoothing)
    found = cross_entropy(hidden, weight, targets, smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    inputs = (hidden, weight) if trained else (hidden,)
    slopes = torch.autograd.grad((found * shares).sum(), inputs)
    for slope, other in zip(slopes, torch.autograd.grad((expected * shares).sum(), inputs), strict=True):
        torch.testing.assert_close(slope, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(cross_entropy(hidden, weight, targets, smoothing), found)


def test_a_16_bit_output_layer_costs_only_its_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(301, 24, generator=generator).bfloat16()
    hidden = torch.randn(9, 24, generator=generator).requires_grad_()
    targets = torch.randint(301, (9,), generator=generator)
    found = cross_entropy(hidden, weight, targets)
    expected = F.cross_entropy(hidden @ weight.float().T, targets, reduction="none")
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    (slope,) = torch.autograd.grad(found.sum(), hidden)
    (other,) = torch.autograd.grad(expected.sum(), hidden)
    assert slope.dtype == torch.float32
    torch.testing.assert_close(slope, other, rtol=0.05, atol=0.05)


def test_huge_logits_stay_finite() -> None:
    hidden = torch.tensor([[300.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    losses = cross_entropy(hidden, weight, torch.tensor([1]))
    assert losses.item() == pytest.approx(600)
    (slope,) = torch.autograd.grad(losses.sum(), hidden)
    assert slope.tolist() == [[2.0, 0.0]]


def test_building_a_model_does_not_import_pytorchs_compiler() -> None:
    code = "import sys; from tests.tune.making import tiny_model; tiny_model(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n"
