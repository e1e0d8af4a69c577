import pytest
import torch

from sklcae._torch import RECONSTRUCTION_LOSSES, Stamps
from sklcae._torch._losses import loss_terms

TORCH = torch.Generator().manual_seed(0)
LOGITS = torch.randn(4, 2, 3, 5, generator=TORCH)
IMAGES = torch.rand(4, 2, 3, 5, generator=TORCH)


def test_binary_cross_entropy_is_equation_3():
    x_hat = torch.sigmoid(LOGITS)
    pixels = -IMAGES * x_hat.log() - (1 - IMAGES) * (1 - x_hat).log()
    expected = pixels.sum() / IMAGES.numel()
    loss = RECONSTRUCTION_LOSSES["binary_cross_entropy"](LOGITS, IMAGES).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_binary_cross_entropy_is_finite_for_extreme_logits():
    logits = torch.tensor([[-200.0, 200.0]])
    loss = RECONSTRUCTION_LOSSES["binary_cross_entropy"]
    losses = loss(logits, torch.tensor([[1.0, 1.0]]))
    assert losses.tolist() == [[pytest.approx(200), pytest.approx(0)]]


def test_binary_cross_entropy_clips_pixels_outside_the_training_range():
    loss = RECONSTRUCTION_LOSSES["binary_cross_entropy"]
    ones = torch.ones_like(IMAGES)
    assert torch.equal(loss(LOGITS, IMAGES + 5), loss(LOGITS, ones))


def test_squared_error_is_that_of_the_image():
    loss = RECONSTRUCTION_LOSSES["squared_error"](LOGITS, IMAGES).mean()
    expected = ((torch.sigmoid(LOGITS) - IMAGES) ** 2).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


Z_PHY = torch.randn(4, 2, generator=TORCH)
Z_REST = torch.randn(4, 3, generator=TORCH)
TARGETS = torch.randn(4, 2, generator=TORCH)
OUTPUT = (Z_PHY, Z_REST, LOGITS)
EVERY_LOSS = pytest.mark.parametrize("name", RECONSTRUCTION_LOSSES)


def assert_same_terms(terms, expected):
    torch.testing.assert_close(torch.stack(terms), torch.stack(expected))


@EVERY_LOSS
def test_terms_are_equations_2_4_and_5(name):
    terms = loss_terms(OUTPUT, Stamps(IMAGES, TARGETS), name)
    pixels = RECONSTRUCTION_LOSSES[name](LOGITS, IMAGES)
    expected = (pixels.mean(), ((Z_PHY - TARGETS) ** 2).mean(), Z_REST.abs().mean())
    assert_same_terms(terms, expected)
    total = expected[0] + 2 * expected[1] + 3 * expected[2]
    assert terms.total(2, 3).item() == pytest.approx(total.item())


@EVERY_LOSS
def test_weights_of_one_change_nothing(name):
    weighted = Stamps(
        IMAGES, TARGETS, torch.ones(4), torch.ones(4, 2), torch.ones(IMAGES.shape) > 0
    )
    plain = loss_terms(OUTPUT, Stamps(IMAGES, TARGETS), name)
    assert_same_terms(loss_terms(OUTPUT, weighted, name), plain)


@EVERY_LOSS
def test_image_that_counts_twice_is_there_twice(name):
    weights = torch.tensor([2.0, 1.0, 1.0, 0.0])
    stamps = Stamps(IMAGES, TARGETS, weights, weights[:, None].expand(4, 2))
    rows = [0, 0, 1, 2]
    repeated = loss_terms(
        [part[rows] for part in OUTPUT], Stamps(IMAGES[rows], TARGETS[rows]), name
    )
    assert_same_terms(loss_terms(OUTPUT, stamps, name), repeated)


@EVERY_LOSS
def test_masked_pixels_have_no_part_in_the_loss(name):
    mask = torch.rand(IMAGES.shape, generator=TORCH) > 0.4
    stamps = Stamps(IMAGES, TARGETS, pixel_mask=mask)
    changed = Stamps(IMAGES + 0.5 * ~mask, TARGETS, pixel_mask=mask)
    terms = loss_terms(OUTPUT, stamps, name)
    assert_same_terms(loss_terms(OUTPUT, changed, name), terms)
    pixels = RECONSTRUCTION_LOSSES[name](LOGITS, IMAGES)
    means = torch.stack([p[m].mean() for p, m in zip(pixels, mask, strict=True)])
    assert terms.reconstruction.item() == pytest.approx(means.mean().item())


def test_missing_targets_have_no_part_in_the_physical_loss():
    # The second target is known for two stamps of four.
    weights = torch.tensor([[1.0, 2.0], [1.0, 0.0], [1.0, 2.0], [1.0, 0.0]])
    stamps = Stamps(IMAGES, TARGETS, target_weights=weights)
    squares = (Z_PHY - TARGETS) ** 2
    expected = (squares[:, 0].mean() + squares[[0, 2], 1].mean()) / 2
    terms = loss_terms(OUTPUT, stamps, "squared_error")
    assert terms.physical.item() == pytest.approx(expected.item())
