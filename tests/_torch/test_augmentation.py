import numpy as np
import pytest
import torch

from sklcae._torch import Batch
from sklcae._torch.augmentation import DihedralAugmentation, dihedral_transform


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
