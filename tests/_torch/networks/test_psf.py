"""Features of a PSF, and networks that read them."""

import galsim
import numpy as np
import pytest
import torch

from sklcae._torch import Batch
from sklcae._torch.networks.psf import N_FEATURES, WEIGHT_SIGMA, psf_features
from sklcae._torch.networks.register import build_network
from sklcae.networks import (
    Architecture,
    NeuralFieldDecoder,
    StridedEncoder,
    combine,
)

AREA, SIZE, E1, E2, X, Y, WINGS = range(N_FEATURES)
FIELD = combine(StridedEncoder, NeuralFieldDecoder)


def draw(profile, side=64, shift=(0.0, 0.0)):
    """Draw a profile with its centre in pixel (side // 2, side // 2)."""
    offset = np.array(shift) + (side // 2 - (side - 1) / 2)
    image = profile.drawImage(
        nx=side, ny=side, scale=1.0, offset=tuple(offset), method="no_pixel"
    )
    return torch.from_numpy(image.array.copy())[None, None]


def features_of(profile, **options):
    return psf_features(draw(profile, **options))[0].numpy().astype(float)


@pytest.mark.parametrize("sigma", [1.1, 1.8, 2.5])
def test_features_of_a_gaussian_are_analytic(sigma):
    features = features_of(galsim.Gaussian(sigma=sigma))
    area = 4 * np.pi * sigma**2
    assert features[AREA] == pytest.approx((np.log(area) - 3.5) / 0.9, abs=1e-3)
    within = 1 / (1 / sigma**2 + 1 / WEIGHT_SIGMA**2)
    expected = (np.log(2 * within) - 1.5) / 0.75
    assert features[SIZE] == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(features[[E1, E2, X, Y, WINGS]], 0, atol=5e-3)


@pytest.mark.parametrize("fwhm", [2.5, 3.5, 6.0])
@pytest.mark.parametrize(
    "profile", [galsim.Gaussian, lambda fwhm: galsim.Moffat(beta=2.5, fwhm=fwhm)]
)
def test_features_are_of_about_unit_size(profile, fwhm):
    sheared = profile(fwhm=fwhm).shear(e1=0.1, e2=-0.05)
    features = features_of(sheared, shift=(0.3, -0.2))
    assert abs(features).max() < 2.5


def test_features_have_the_right_direction_and_sign():
    features = features_of(galsim.Gaussian(sigma=1.5).shear(e1=0.1, e2=-0.05))
    # Within the weight the ellipticity is smaller.
    assert 0.6 < features[E1] < 1
    assert features[E2] == pytest.approx(-features[E1] / 2, rel=0.03)
    features = features_of(galsim.Gaussian(sigma=1.5), shift=(0.5, -0.25))
    assert 0.6 < features[X] < 1
    assert features[Y] == pytest.approx(-features[X] / 2, rel=0.03)
    moffat = features_of(galsim.Moffat(beta=2.5, fwhm=3.5))
    assert moffat[WINGS] > 0.5
    assert moffat[AREA] > features_of(galsim.Gaussian(fwhm=3.5))[AREA]


def test_features_do_not_depend_on_the_sum_or_the_stamp():
    small, large = (draw(galsim.Gaussian(fwhm=3), side=side) for side in (21, 64))
    expected = psf_features(large)
    torch.testing.assert_close(psf_features(7 * large), expected)
    torch.testing.assert_close(psf_features(small), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("psf", ["zeros", "flat", "noise", "point", "negative"])
def test_features_of_any_psf_are_finite(psf):
    generator = torch.Generator().manual_seed(0)
    point = torch.zeros(1, 2, 9, 8)
    point[:, :, 4, 4] = 1
    psf = {
        "zeros": torch.zeros(1, 2, 9, 8),
        "flat": torch.ones(1, 2, 9, 8),
        "noise": torch.randn(1, 2, 9, 8, generator=generator),
        "point": point,
        "negative": -point,
    }[psf].requires_grad_()
    features = psf_features(psf)
    assert features.shape == (1, 2 * N_FEATURES)
    assert features.isfinite().all()
    features.sum().backward()
    assert psf.grad.isfinite().all()


def build(has_psf, n_bands=2):
    architecture = Architecture((n_bands, 12, 12), 2, 6, True, has_psf)
    return build_network(FIELD, architecture, torch.Generator().manual_seed(0))


def test_a_new_encoder_does_not_see_the_psf_yet():
    """Scales of 1 and shifts of 0: the features are those of the plain encoder."""
    network, plain = build(True).encoder, build(False).encoder
    plain.load_state_dict(network.state_dict(), strict=False)
    images, psf = torch.rand(3, 2, 12, 12), torch.rand(3, 2, 12, 12)
    first, expected = network(Batch(images, psf=psf)), plain(Batch(images))
    for values, wanted in zip(first, expected, strict=True):
        torch.testing.assert_close(values, wanted)
    # The gradient moves it from there.
    first.latents.sum().backward()
    assert network.conditions.dense_film.weight.grad.abs().max() > 0
    torch.nn.init.normal_(network.conditions.dense_film.weight)
    changed = network(Batch(images, psf=psf)).latents
    other = network(Batch(images, psf=psf.flip(0))).latents
    assert not torch.allclose(changed, expected.latents)
    assert not torch.allclose(changed[0], other[0])
    torch.testing.assert_close(changed[1], other[1])


def test_the_field_is_drawn_with_its_psf():
    decoder, latents = build(True).decoder, torch.rand(3, 6)
    psf = torch.cat([draw(galsim.Gaussian(sigma=s), side=12) for s in (1.0, 1.5, 2.0)])
    psf = psf.expand(-1, 2, -1, -1)
    images = decoder(latents, psf)
    assert images.shape == (3, 2, 12, 12)
    other = decoder(latents, psf.flip(0))
    assert not torch.allclose(images[0], other[0])
    torch.testing.assert_close(images[1], other[1])


@pytest.mark.parametrize("name", ["paper", "strided", "neural_field"])
def test_networks_that_read_no_psf_say_so(name):
    architecture = Architecture((1, 12, 12), 2, 6, has_psf=True)
    generator = torch.Generator().manual_seed(0)
    if name in ("paper", "strided"):
        with pytest.raises(ValueError, match=r"neural_field.*reads no PSF"):
            build_network(name, architecture, generator)
        return
    network = build_network(name, architecture, generator)
    psf = draw(galsim.Gaussian(sigma=1.5), side=12)
    encoding = network.encode(Batch(torch.rand(1, 1, 12, 12), psf=psf))
    assert network.decode(encoding.latents, psf).shape == (1, 1, 12, 12)
