"""Cross-entropy from hidden states against PyTorch's over all logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from empu.tune.cross_entropy import CHUNK_ROWS, cross_entropy

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("count", [1, CHUNK_ROWS, 2 * CHUNK_ROWS + 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("is_trained", [False, True], ids=["frozen output", "trained output"])
def test_losses_and_gradients_equal_those_of_pytorch(count: int, smoothing: float, is_trained: bool) -> None:
    generator = torch.Generator().manual_seed(count)
    weight = torch.randn(301, 24, generator=generator).requires_grad_(is_trained)
    hidden = (3 * torch.randn(count, 24, generator=generator)).requires_grad_()
    targets = torch.randint(301, (count,), generator=generator)
    weights = torch.rand(count, generator=generator)
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="none", label_smoothing=smoothing)
    losses = cross_entropy(hidden, weight, targets, smoothing)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    inputs = (hidden, weight) if is_trained else (hidden,)
    gradients = torch.autograd.grad((losses * weights).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(cross_entropy(hidden, weight, targets, smoothing), losses)


def test_a_bfloat16_output_layer_differs_by_rounding_only() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(301, 24, generator=generator).bfloat16()
    hidden = torch.randn(9, 24, generator=generator).requires_grad_()
    targets = torch.randint(301, (9,), generator=generator)
    losses = cross_entropy(hidden, weight, targets)
    expected = F.cross_entropy(hidden @ weight.float().T, targets, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=0.02, atol=0.02)
    (gradient,) = torch.autograd.grad(losses.sum(), hidden)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), hidden)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, expected_gradient, rtol=0.05, atol=0.05)


def test_huge_logits_stay_finite() -> None:
    hidden = torch.tensor([[300.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    losses = cross_entropy(hidden, weight, torch.tensor([1]))
    assert losses.item() == pytest.approx(600)
    (gradient,) = torch.autograd.grad(losses.sum(), hidden)
    assert gradient.tolist() == [[2.0, 0.0]]


def test_building_a_model_does_not_import_pytorchs_compiler() -> None:
    code = "import sys; from tests.tune.samples import tiny_model; tiny_model(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n"
