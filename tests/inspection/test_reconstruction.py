"""Images above their reconstructions."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklcae.inspection import ReconstructionDisplay


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    images = rng.normal(10, 5, size=(5, 6, 7))
    return images, images + rng.normal(size=images.shape)


def drawn(display):
    return [[ax.images[0] for ax in row] for row in display.axes_]


def test_numbers_are_kept(pair):
    images, reconstructions = pair
    display = ReconstructionDisplay.from_predictions(*pair, n_images=3)
    np.testing.assert_array_equal(display.images, images[:3])
    np.testing.assert_array_equal(display.reconstructions, reconstructions[:3])
    np.testing.assert_allclose(display.residuals, (images - reconstructions)[:3])
    expected = [np.sqrt(np.mean(r**2)) for r in display.residuals]
    np.testing.assert_allclose(display.rmse, expected)
    np.testing.assert_array_equal(display.indices, [0, 1, 2])


def test_each_column_has_the_range_of_its_input(pair):
    display = ReconstructionDisplay.from_predictions(*pair, n_images=5)
    assert display.axes_.shape == (2, 5)
    assert display.figure_ is display.axes_[0, 0].figure
    for k, (top, bottom) in enumerate(zip(*drawn(display), strict=True)):
        image = display.images[k]
        np.testing.assert_array_equal(top.get_array(), image)
        np.testing.assert_array_equal(bottom.get_array(), display.reconstructions[k])
        assert top.get_clim() == bottom.get_clim() == (image.min(), image.max())


def test_texts(pair):
    display = ReconstructionDisplay.from_predictions(
        *pair, indices=[4, 1], show_residuals=True
    )
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == ["image 4", "image 1"]
    labels = [row[0].get_ylabel() for row in display.axes_]
    assert labels == ["Input", "Reconstruction", "Residual"]
    assert not any(len(ax.get_xticks()) for ax in display.axes_.flat)


def test_scales_are_written(pair):
    display = ReconstructionDisplay.from_predictions(
        *pair, indices=[4], show_residuals=True
    )
    image, limit = display.images[0], np.abs(display.residuals).max()
    scale = f"scale {image.min():.3g}\nto {image.max():.3g} ADU"
    rmse = f"RMSE {display.rmse[0]:.3g} ADU"
    texts = [ax.get_xlabel() for ax in display.axes_[:, 0]]
    assert texts == ["", scale, f"scale ±{limit:.3g} ADU\n{rmse}"]
    display.plot()
    texts = [ax.get_xlabel() for ax in display.axes_[:, 0]]
    assert texts == ["", f"{scale}\n{rmse}"]


def test_residual_row_is_symmetric_about_zero(pair):
    display = ReconstructionDisplay.from_predictions(
        *pair, n_images=2, show_residuals=True
    )
    assert display.axes_.shape == (3, 2)
    for artist, residual in zip(drawn(display)[2], display.residuals, strict=True):
        np.testing.assert_array_equal(artist.get_array(), residual)
        limit = np.abs(residual).max()
        assert artist.get_clim() == (-limit, limit)


@pytest.mark.parametrize("layout", ["flat", "images", "channels", "frame"])
def test_every_layout_gives_the_same(layout, galaxies, model):
    images, y = galaxies
    X = {
        "flat": images.reshape(len(images), -1),
        "images": images,
        "channels": images[:, np.newaxis],
        "frame": pd.DataFrame(images.reshape(len(images), -1)),
    }[layout]
    display = ReconstructionDisplay.from_estimator(
        clone(model).fit(X, y), X, indices=[7, 2]
    )
    np.testing.assert_array_equal(display.images, images[[7, 2]])
    np.testing.assert_allclose(display.reconstructions, images[[7, 2]])
    np.testing.assert_allclose(display.rmse, 0, atol=1e-10)


def test_channel_is_chosen():
    images = np.random.default_rng(0).normal(size=(3, 2, 5, 5))
    display = ReconstructionDisplay.from_predictions(
        images, images, n_images=1, channel=1
    )
    np.testing.assert_array_equal(display.images, images[:1, 1])


def test_asinh_changes_the_colours_only(pair):
    linear = ReconstructionDisplay.from_predictions(*pair, n_images=1)
    asinh = ReconstructionDisplay.from_predictions(*pair, n_images=1, stretch="asinh")
    np.testing.assert_array_equal(linear.images, asinh.images)
    first, second = drawn(linear)[0][0], drawn(asinh)[0][0]
    assert first.get_clim() == second.get_clim()
    assert type(second.norm).__name__ == "AsinhNorm"


@pytest.mark.parametrize("stretch", ["linear", "asinh"])
def test_constant_images_can_be_drawn(stretch):
    flat = np.full((2, 4, 4), 3.0)
    display = ReconstructionDisplay.from_predictions(
        flat, flat, n_images=2, stretch=stretch, show_residuals=True
    )
    display.figure_.canvas.draw()


def test_given_axes_and_keywords_are_used(pair):
    figure, axes = plt.subplots(2, 3)
    display = ReconstructionDisplay.from_predictions(
        *pair, n_images=3, ax=axes, im_kwargs={"cmap": "magma", "origin": "upper"}
    )
    assert display.figure_ is figure
    assert display.axes_.tolist() == axes.tolist()
    assert drawn(display)[1][2].get_cmap().name == "magma"
    assert drawn(display)[1][2].origin == "upper"


def test_plot_draws_again_and_returns_itself(pair):
    display = ReconstructionDisplay.from_predictions(*pair, n_images=2)
    first = display.figure_
    assert display.plot(show_residuals=True) is display
    assert display.figure_ is not first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_images": 6}, "n_images must be an integer from 1 to 5.*got 6"),
        ({"n_images": 0}, "n_images must be an integer from 1 to 5.*got 0"),
        ({"indices": [0, 5]}, r"indices must lie between 0 and 4, got \[0, 5\]"),
        ({"indices": [0.5]}, "indices must be a list of integers"),
        ({"indices": []}, "indices must be a list of integers"),
        ({"n_images": 2, "channel": 1}, "channel must be an integer from 0 to 0"),
        ({"n_images": 2, "stretch": "log"}, "stretch must be 'linear' or 'asinh'"),
        ({"n_images": 2, "ax": [None] * 3}, "ax must be an array of 4 axes.*got 3"),
    ],
)
def test_bad_options(pair, options, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_predictions(*pair, **options)


def test_bad_images(pair):
    images, reconstructions = pair
    with pytest.raises(ValueError, match="must have the same shape"):
        ReconstructionDisplay.from_predictions(images, reconstructions[:, :5])
    with pytest.raises(ValueError, match="images must have the shape"):
        ReconstructionDisplay.from_predictions(images[0], reconstructions[0])


def test_unfitted_estimator(galaxies, model):
    with pytest.raises(NotFittedError):
        ReconstructionDisplay.from_estimator(clone(model), galaxies[0])
