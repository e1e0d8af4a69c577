import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve

from sklcae._torch import Batch
from sklcae._torch.augmentation import (
    DihedralAugmentation,
    dihedral_transform,
    turn_batch,
    turn_psf,
)


def test_elements_are_the_eight_symmetries_of_the_square():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = [dihedral_transform(image, k).numpy()[0, 0] for k in range(8)]
    expected = [np.rot90(m, k) for m in (turned[0], turned[0].T) for k in range(4)]
    assert {t.tobytes() for t in turned} == {
        np.ascontiguousarray(e).tobytes() for e in expected
    }
    np.testing.assert_array_equal(turned[1], turned[0][:, ::-1])
    np.testing.assert_array_equal(turned[2], turned[0][::-1])
    np.testing.assert_array_equal(turned[4], turned[0].T)


@pytest.mark.parametrize(("shape", "n_elements"), [((1, 6, 6), 8), ((2, 3, 5), 4)])
def test_every_stamp_gets_its_own_element_and_target(shape, n_elements):
    generator = torch.Generator().manual_seed(0)
    # The target that an element sets tells which element a stamp got.
    matrices = np.zeros((n_elements, 1, 1))
    offsets = np.arange(n_elements, dtype=float)[:, None]
    augment = DihedralAugmentation(matrices, offsets, generator)
    images = torch.rand(400, *shape, generator=generator)
    before = images.clone()

    turned, targets, *nothing = augment(Batch(images, torch.ones(400, 1)))

    assert nothing == [None] * 6
    assert torch.equal(images, before)
    assert sorted(set(targets.ravel().tolist())) == list(range(n_elements))
    for image, result, element in zip(images, turned, targets, strict=True):
        expected = dihedral_transform(image[None], int(element))[0]
        assert torch.equal(result, expected)


def test_elements_are_equally_likely():
    augment = DihedralAugmentation(
        np.zeros((8, 1, 1)), np.arange(8.0)[:, None], torch.Generator().manual_seed(1)
    )
    stamps = Batch(torch.zeros(8000, 1, 2, 2), torch.zeros(8000, 1))
    counts = np.bincount(augment(stamps).targets.ravel().int().numpy(), minlength=8)
    assert abs(counts - 1000).max() < 5 * 1000**0.5


def test_planes_and_weights_turn_with_the_image():
    generator = torch.Generator().manual_seed(0)
    swap = np.array([[0.0, 2.0], [-0.5, 0.0]])
    matrices = np.stack([np.eye(2)] * 4 + [swap] * 4)
    augment = DihedralAugmentation(matrices, np.zeros((8, 2)), generator)
    images = torch.rand(50, 1, 5, 5, generator=generator)
    weights = torch.tensor([[1.0, 0.0]]).repeat(50, 1)
    stamps = Batch(
        images,
        torch.ones(50, 2),
        mask=images > 0.3,
        image_weights=torch.arange(50.0),
        target_weights=weights,
        variance=images + 1,
        psf=images - 1,
    )

    turned = augment(stamps)

    assert torch.equal(turned.mask, turned.images > 0.3)
    assert torch.equal(turned.variance, turned.images + 1)
    assert torch.equal(turned.psf, turned.images - 1)
    assert torch.equal(turned.image_weights, stamps.image_weights)
    swapped = turned.targets[:, 0] == 2
    assert 10 < swapped.sum() < 40
    assert turned.target_weights[swapped].unique(dim=0).tolist() == [[0, 1]]
    assert turned.target_weights[~swapped].unique(dim=0).tolist() == [[1, 0]]


def test_partners_turn_as_their_stamps_do():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 2, 5, 5, generator=generator)
    weights = torch.tensor([[1.0, 0.0]]).repeat(60, 1)
    targets = torch.arange(120.0).reshape(60, 2)
    stamps = Batch(images, targets, target_weights=weights)
    partners = Batch(
        images + 1,
        targets + 1,
        mask=images > 0.3,
        image_weights=torch.arange(60.0),
        target_weights=weights,
    )
    swap = np.eye(2)[::-1]
    matrices = np.stack([np.eye(2)] * 4 + [swap] * 4)
    offsets = np.arange(8.0)[:, None] * [0, 1000]
    augment = DihedralAugmentation(matrices, offsets, generator)

    turned = augment(stamps._replace(partners=partners))

    assert len((turned.targets[:, 1] // 1000).unique()) == 8
    assert torch.equal(turned.partners.targets, turned.targets + 1)
    assert torch.equal(turned.partners.target_weights, turned.target_weights)
    assert torch.equal(turned.partners.images, turned.images + 1)
    assert torch.equal(turned.partners.mask, turned.images > 0.3)
    assert torch.equal(turned.partners.image_weights, partners.image_weights)


def test_partners_change_nothing_for_their_stamps():
    stamps = Batch(torch.rand(60, 1, 4, 4), torch.zeros(60, 1))
    alone, with_partners = (
        DihedralAugmentation(
            np.zeros((8, 1, 1)), np.zeros((8, 1)), torch.Generator().manual_seed(0)
        )(stamps._replace(partners=partners))
        for partners in (None, stamps)
    )
    assert torch.equal(alone.images, with_partners.images)


# PSFs turn about their centre ---------------------------------------------------------


def make_asymmetric_psf(shape, rng):
    """A PSF without any symmetry, dark at the edge, about (H // 2, W // 2)."""
    psf = np.zeros(shape)
    psf[2:-2, 2:-2] = rng.random((shape[0] - 4, shape[1] - 4)) ** 4
    return psf / psf.sum()


def observe(galaxy, psf):
    """Convolve with a PSF whose centre is pixel (H // 2, W // 2)."""
    height, width = galaxy.shape
    light = fftconvolve(galaxy, psf)
    rows, columns = height // 2, width // 2
    return light[rows : rows + height, columns : columns + width]


def as_tensor(array):
    return torch.from_numpy(array)[None, None]


@pytest.mark.parametrize(
    ("shape", "n_elements"),
    [((10, 10), 8), ((11, 11), 8), ((10, 13), 4), ((9, 12), 4)],
)
def test_a_turned_galaxy_is_seen_through_the_turned_psf(shape, n_elements):
    rng = np.random.default_rng(0)
    galaxy, psf = rng.random(shape), make_asymmetric_psf(shape, rng)
    image = as_tensor(observe(galaxy, psf))
    for element in range(n_elements):
        turned_galaxy = dihedral_transform(as_tensor(galaxy), element)[0, 0].numpy()
        turned_psf = turn_psf(as_tensor(psf), element)[0, 0].numpy()
        expected = observe(turned_galaxy, turned_psf)
        result = dihedral_transform(image, element)[0, 0].numpy()
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_partners_and_batches_turn_with_their_psf():
    """Each PSF turns as its image does, the partners' too."""
    generator = torch.Generator().manual_seed(0)
    images, psf, other = (
        torch.rand(40, 2, 6, 6, generator=generator) for _ in range(3)
    )
    offsets = np.arange(8.0)[:, None]
    augment = DihedralAugmentation(np.zeros((8, 1, 1)), offsets, generator)
    partners = Batch(images.flip(0), torch.zeros(40, 1), variance=other, psf=other)
    batch = Batch(images, torch.zeros(40, 1), variance=images, psf=psf)
    turned = augment(batch._replace(partners=partners))
    elements = turned.targets.ravel().int().tolist()
    assert len(set(elements)) == 8
    for i, element in enumerate(elements):
        one = turn_batch(batch.map(lambda part, i=i: part[[i]]), element)
        assert torch.equal(turned.images[[i]], one.images)
        assert torch.equal(turned.variance[[i]], one.images)
        assert torch.equal(turned.psf[[i]], one.psf)
        assert torch.equal(one.psf, turn_psf(psf[[i]], element))
        expected = turn_psf(other[[i]], element)
        assert torch.equal(turned.partners.psf[[i]], expected)
        expected = dihedral_transform(other[[i]], element)
        assert torch.equal(turned.partners.variance[[i]], expected)
