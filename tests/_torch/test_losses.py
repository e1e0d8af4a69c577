import pytest
import torch

from sklcae._torch import RECONSTRUCTION_LOSSES
from sklcae._torch._losses import loss_terms

TORCH = torch.Generator().manual_seed(0)
LOGITS = torch.randn(4, 2, 3, 5, generator=TORCH)
IMAGES = torch.rand(4, 2, 3, 5, generator=TORCH)


def test_binary_cross_entropy_is_equation_3():
    x_hat = torch.sigmoid(LOGITS)
    pixels = -IMAGES * x_hat.log() - (1 - IMAGES) * (1 - x_hat).log()
    expected = pixels.sum() / IMAGES.numel()
    loss = RECONSTRUCTION_LOSSES["binary_cross_entropy"](LOGITS, IMAGES)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_binary_cross_entropy_is_finite_for_extreme_logits():
    logits = torch.tensor([[-200.0, 200.0]])
    loss = RECONSTRUCTION_LOSSES["binary_cross_entropy"]
    assert loss(logits, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(100)


def test_binary_cross_entropy_clips_pixels_outside_the_training_range():
    loss = RECONSTRUCTION_LOSSES["binary_cross_entropy"]
    assert loss(LOGITS, IMAGES + 5) == loss(LOGITS, torch.ones_like(IMAGES))


def test_squared_error_is_that_of_the_image():
    loss = RECONSTRUCTION_LOSSES["squared_error"](LOGITS, IMAGES)
    expected = ((torch.sigmoid(LOGITS) - IMAGES) ** 2).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", RECONSTRUCTION_LOSSES)
def test_terms_are_equations_2_4_and_5(name):
    z_phy = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    targets = torch.tensor([[0.0, 2.0], [3.0, 7.0]])
    z_rest = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 3.0]])
    terms = loss_terms((z_phy, z_rest, LOGITS), IMAGES, targets, name)

    assert terms.reconstruction == RECONSTRUCTION_LOSSES[name](LOGITS, IMAGES)
    assert terms.physical.item() == pytest.approx((1 + 9) / 4)
    assert terms.regularization.item() == pytest.approx((1 + 2 + 3) / 6)
    expected = terms.reconstruction + 2 * terms.physical + 3 * terms.regularization
    assert terms.total(2, 3).item() == pytest.approx(expected.item())
