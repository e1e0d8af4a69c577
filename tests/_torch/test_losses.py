import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sklcae._noise import NoiseModel
from sklcae._torch import (
    PHYSICAL_LOSSES,
    RECONSTRUCTION_LOSSES,
    Batch,
    LightScale,
)
from sklcae._torch.losses import Light, Logits, LossTerms, LossWeights, loss_terms
from sklcae._torch.losses import pixel_loss as loss_of_images
from sklcae._torch.networks.base import Encoding
from sklcae._torch.training import Output

TORCH = torch.Generator().manual_seed(0)
LOGITS = torch.randn(4, 2, 3, 5, generator=TORCH)
IMAGES = torch.rand(4, 2, 3, 5, generator=TORCH)

# Minimum, range, softening and variance of two channels, with few binary digits: the
# same in float32 and float64. Part of the light is below the background.
ARRAYS = {
    "linear": ([-3.0, -1.0], [8.0, 4.0], [2.0, 16.0], [4.0, 32.0]),
    "asinh": ([-0.5, -0.25], [6.0, 3.5], [2.0, 16.0], [4.0, 32.0]),
}
GAIN = 2.5


def make_scale(stretch):
    *scaling, variance = (np.reshape(v, (2, 1, 1)) for v in ARRAYS[stretch])
    return LightScale(stretch, *scaling, NoiseModel(variance, GAIN)).to("cpu")


SCALE = make_scale("asinh")
EVERY_STRETCH = pytest.mark.parametrize("stretch", ["linear", "asinh"])


def pixel_loss(name, logits, images):
    return RECONSTRUCTION_LOSSES[name](Logits(logits), Batch(images), SCALE)


def test_binary_cross_entropy_is_equation_3():
    x_hat = torch.sigmoid(LOGITS)
    pixels = -IMAGES * x_hat.log() - (1 - IMAGES) * (1 - x_hat).log()
    expected = pixels.sum() / IMAGES.numel()
    loss = pixel_loss("binary_cross_entropy", LOGITS, IMAGES).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_binary_cross_entropy_is_finite_for_extreme_logits():
    logits = torch.tensor([[-200.0, 200.0]])
    losses = pixel_loss("binary_cross_entropy", logits, torch.tensor([[1.0, 1.0]]))
    assert losses.tolist() == [[pytest.approx(200), pytest.approx(0)]]


def test_binary_cross_entropy_clips_pixels_outside_the_training_range():
    ones = torch.ones_like(IMAGES)
    brighter, clipped = (
        pixel_loss("binary_cross_entropy", LOGITS, images)
        for images in (IMAGES + 5, ones)
    )
    assert torch.equal(brighter, clipped)


def test_squared_error_is_that_of_the_image():
    loss = pixel_loss("squared_error", LOGITS, IMAGES).mean()
    expected = ((torch.sigmoid(LOGITS) - IMAGES) ** 2).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def light(scaled, stretch):
    """Return the light of scaled images in NumPy, and the variance of its noise."""
    arrays = [np.reshape(values, (2, 1, 1)) for values in ARRAYS[stretch]]
    minimum, span, softening, variance = arrays
    stretched = np.asarray(scaled, np.float64) * span + minimum
    values = softening * (np.sinh(stretched) if stretch == "asinh" else stretched)
    return values, variance + np.maximum(values, 0) / GAIN


@EVERY_STRETCH
def test_chi_square_is_that_of_the_light(stretch):
    logits, images = LOGITS.double(), IMAGES.double()
    chi_square = RECONSTRUCTION_LOSSES["chi_square"]
    losses = chi_square(Logits(logits), Batch(images), make_scale(stretch))

    observed, _ = light(images, stretch)
    predicted, variance = light(1 / (1 + np.exp(-logits.numpy())), stretch)
    assert (predicted < 0).any()
    np.testing.assert_allclose(
        losses, (observed - predicted) ** 2 / (2 * variance), rtol=1e-11
    )


@pytest.fixture(params=["linear", "asinh"])
def chi_square_gradient(request):
    """Scale, predicted light, observed light, and the gradient for the predicted."""
    scale = make_scale(request.param)
    logits = LOGITS.double().requires_grad_()
    images = IMAGES.double()
    chi_square_loss = RECONSTRUCTION_LOSSES["chi_square"]
    loss = chi_square_loss(Logits(logits), Batch(images), scale).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    predicted = scale.light(torch.sigmoid(logits))
    (chain,) = torch.autograd.grad(predicted.sum(), logits)
    return scale, predicted.detach(), scale.light(images), gradient / chain


def test_gradient_of_chi_square_holds_the_variance_fixed(chi_square_gradient):
    scale, predicted, observed, gradient = chi_square_gradient
    expected = (predicted - observed) / scale.noise.variance(predicted)
    torch.testing.assert_close(gradient, expected)


def test_gradient_of_chi_square_is_that_of_a_poisson_likelihood(chi_square_gradient):
    """Of counts, to which the variance of the other noise is added as further ones."""
    scale, predicted, observed, gradient = chi_square_gradient
    further = GAIN**2 * scale.noise.background
    light = predicted.clone().requires_grad_()
    poisson = F.poisson_nll_loss(
        GAIN * light + further, GAIN * observed + further, False, reduction="none"
    )
    (expected,) = torch.autograd.grad(poisson.sum(), light)
    lit = predicted >= 0
    assert 0 < lit.sum() < lit.numel()
    # PyTorch adds 1e-8 to the counts.
    torch.testing.assert_close(gradient[lit], expected[lit], rtol=1e-6, atol=1e-8)


def test_light_scale_moves_with_all_of_its_tensors():
    moved = SCALE.to("meta")
    assert (moved.stretch, moved.noise.gain) == (SCALE.stretch, GAIN)
    tensors = [moved.minimum, moved.range, moved.softening, moved.noise.background]
    assert {part.device.type for part in tensors} == {"meta"}
    assert {part.dtype for part in tensors} == {torch.float32}


@EVERY_STRETCH
def test_chi_square_takes_the_variance_of_each_pixel(stretch):
    """A batch with a variance plane, beside the same variance for all."""
    chi_square, scale = RECONSTRUCTION_LOSSES["chi_square"], make_scale(stretch)
    variance = scale.noise.background.expand(IMAGES.shape).clone()
    plain = chi_square(Logits(LOGITS), Batch(IMAGES), scale)
    given = chi_square(Logits(LOGITS), Batch(IMAGES, variance=variance), scale)
    assert torch.equal(given, plain)
    variance[1, 0, 2, 3] = 1e6
    noisy = chi_square(Logits(LOGITS), Batch(IMAGES, variance=variance), scale)
    changed = noisy != plain
    assert changed.nonzero().tolist() == [[1, 0, 2, 3]]
    assert noisy[1, 0, 2, 3] < plain[1, 0, 2, 3]


Z_PHY = torch.randn(4, 2, generator=TORCH)
Z_REST = torch.randn(4, 3, generator=TORCH)
TARGETS = torch.randn(4, 2, generator=TORCH)
LOG_VARIANCE = torch.randn(4, 2, generator=TORCH)
ENCODING = Encoding(Z_PHY, Z_REST, LOG_VARIANCE)
OUTPUT = Output(ENCODING, Logits(LOGITS))
EVERY_LOSS = pytest.mark.parametrize("name", RECONSTRUCTION_LOSSES)
EVERY_PHYSICAL_LOSS = pytest.mark.parametrize("physical", PHYSICAL_LOSSES)


def terms_of(stamps, name="squared_error", physical="squared_error", output=OUTPUT):
    return loss_terms(output, stamps, name, physical, SCALE)


def assert_same_terms(terms, expected):
    torch.testing.assert_close(torch.stack(terms), torch.stack(expected))


@EVERY_LOSS
def test_terms_are_equations_2_4_and_5(name):
    terms = terms_of(Batch(IMAGES, TARGETS), name)
    pixels = pixel_loss(name, LOGITS, IMAGES)
    squares = (Z_PHY - TARGETS) ** 2
    expected = (pixels.mean(), squares.mean(), Z_REST.abs().mean(), torch.zeros(()))
    assert_same_terms(terms, expected)
    total = expected[0] + 2 * expected[1] + 3 * expected[2]
    assert terms.total(LossWeights(2, 3)).item() == pytest.approx(total.item())


@EVERY_LOSS
@EVERY_STRETCH
def test_light_has_the_loss_of_the_same_image_as_logits(name, stretch):
    scale = make_scale(stretch)
    logits = Logits(LOGITS.clamp(-4, 4).double())
    light = Light(logits.light(scale))
    batch, loss = Batch(IMAGES.double()), RECONSTRUCTION_LOSSES[name]
    torch.testing.assert_close(light.scaled(scale), logits.scaled(scale))
    torch.testing.assert_close(loss(light, batch, scale), loss(logits, batch, scale))


def test_total_weighs_the_exchange_with_gamma():
    terms = LossTerms(*torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    assert terms.total(LossWeights(2, 3, 4)).item() == 4321
    assert terms.total(LossWeights(2, 3)).item() == 321


@EVERY_LOSS
@EVERY_PHYSICAL_LOSS
def test_weights_of_one_change_nothing(name, physical):
    weighted = Batch(
        IMAGES,
        TARGETS,
        mask=torch.ones(IMAGES.shape) > 0,
        image_weights=torch.ones(4),
        target_weights=torch.ones(4, 2),
    )
    plain = terms_of(Batch(IMAGES, TARGETS), name, physical)
    assert_same_terms(terms_of(weighted, name, physical), plain)


@EVERY_LOSS
@EVERY_PHYSICAL_LOSS
def test_image_that_counts_twice_is_there_twice(name, physical):
    weights = torch.tensor([2.0, 1.0, 1.0, 0.0])
    stamps = Batch(
        IMAGES,
        TARGETS,
        image_weights=weights,
        target_weights=weights[:, None].expand(4, 2),
    )
    rows = [0, 0, 1, 2]
    repeated = terms_of(
        Batch(IMAGES[rows], TARGETS[rows]),
        name,
        physical,
        Output(Encoding(*(part[rows] for part in ENCODING)), Logits(LOGITS[rows])),
    )
    assert_same_terms(terms_of(stamps, name, physical), repeated)


@EVERY_LOSS
def test_masked_pixels_have_no_part_in_the_loss(name):
    mask = torch.rand(IMAGES.shape, generator=TORCH) > 0.4
    stamps = Batch(IMAGES, TARGETS, mask=mask)
    changed = Batch(IMAGES + 0.5 * ~mask, TARGETS, mask=mask)
    terms = terms_of(stamps, name)
    assert_same_terms(terms_of(changed, name), terms)
    pixels = pixel_loss(name, LOGITS, IMAGES)
    means = torch.stack([p[m].mean() for p, m in zip(pixels, mask, strict=True)])
    assert terms.reconstruction.item() == pytest.approx(means.mean().item())


@EVERY_LOSS
def test_exchange_loss_is_the_reconstruction_loss_of_the_partners(name):
    mask = torch.rand(IMAGES.shape, generator=TORCH) > 0.4
    weights = torch.tensor([2.0, 0, 1, 1])
    partners = Batch(IMAGES, TARGETS, mask=mask, image_weights=weights)
    loss = loss_of_images(Logits(LOGITS), partners, name, SCALE)
    assert torch.equal(loss, terms_of(partners, name).reconstruction)


@EVERY_PHYSICAL_LOSS
def test_missing_targets_have_no_part_in_the_physical_loss(physical):
    # The second target is known for two stamps of four.
    weights = torch.tensor([[1.0, 2.0], [1.0, 0.0], [1.0, 2.0], [1.0, 0.0]])
    known = Batch(IMAGES, TARGETS, target_weights=weights)
    other = known._replace(targets=TARGETS + 9 * (weights == 0))
    losses = PHYSICAL_LOSSES[physical](ENCODING, TARGETS)
    expected = (losses[:, 0].mean() + losses[[0, 2], 1].mean()) / 2
    for stamps in (known, other):
        terms = terms_of(stamps, physical=physical)
        assert terms.physical.item() == pytest.approx(expected.item())


def likelihood(z_phy, targets, log_variance):
    encoding = Encoding(z_phy, None, log_variance)
    return PHYSICAL_LOSSES["gaussian_likelihood"](encoding, targets)


def test_gaussian_likelihood_is_that_of_a_normal_distribution():
    losses = likelihood(Z_PHY, TARGETS, LOG_VARIANCE)
    std = (LOG_VARIANCE / 2).exp()
    density = torch.distributions.Normal(Z_PHY, std).log_prob(TARGETS)
    expected = -density - 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(losses, expected)


def test_mean_and_variance_learn_apart_and_only_the_mean_is_weighed():
    z_phy, log_variance = (
        part.double().requires_grad_() for part in (Z_PHY, LOG_VARIANCE)
    )
    targets = TARGETS.double()
    loss = likelihood(z_phy, targets, log_variance).sum()
    gradients = torch.autograd.grad(loss, (z_phy, log_variance))

    residual = (z_phy - targets).detach()
    std = (log_variance / 2).exp().detach()
    expected = (residual / std, (1 - residual**2 / std**2) / 2)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("scaled", [-14.0, 0.0, 6.0])
def test_gaussian_likelihood_finds_the_variance_of_the_residuals(scaled):
    """At either bound of what a network predicts, and in between."""
    targets = torch.randn(1000, generator=torch.Generator().manual_seed(0)).double()
    targets = targets * np.exp(scaled / 2)
    best = (targets**2).mean().log()

    def slope(log_variance):
        log_variance.requires_grad_()
        loss = likelihood(torch.zeros_like(targets), targets, log_variance).mean()
        return torch.autograd.grad(loss, log_variance)[0].item()

    assert slope(best - 0.2) < -0.05
    assert slope(best + 0.2) > 0.05
    assert slope(best) == pytest.approx(0, abs=1e-12)


def test_hard_targets_pull_at_the_mean_as_easy_ones_do():
    """A residual of one standard deviation has the same gradient whatever that is."""
    log_variance = torch.tensor([-8.0, 0.0, 4.0])
    mean = torch.zeros(3, requires_grad=True)
    loss = likelihood(mean, (log_variance / 2).exp(), log_variance).sum()
    (gradient,) = torch.autograd.grad(loss, mean)
    torch.testing.assert_close(gradient, -torch.ones(3))
