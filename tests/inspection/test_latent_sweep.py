"""Images decoded while single latents vary."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklcae.inspection import LatentSweepDisplay
from sklcae.metrics import half_light_radius, sweep_slopes, total_flux


@pytest.fixture
def stamp(galaxies):
    return galaxies[0][[3]]


def test_one_latent_varies_and_the_others_are_constant(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, n_steps=5)
    base = model.transform(stamp)[0]
    np.testing.assert_array_equal(display.base_latent, base)
    np.testing.assert_allclose(display.values, [np.linspace(-1.5, 1.5, 5)] * 2)
    for row in range(2):
        for step in range(5):
            z = base.copy()
            z[row] = display.values[row, step]
            np.testing.assert_allclose(
                display.images[row, step], model.inverse_transform(z[np.newaxis])[0]
            )


def test_measurements_follow_the_requested_values(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, pixel_scale=0.2)
    asked = display.values * model.scale_[:, np.newaxis] + model.mean_[:, np.newaxis]
    flux_slopes = sweep_slopes(asked, display.flux)
    size_slopes = sweep_slopes(asked, display.half_light_radius)
    np.testing.assert_allclose(flux_slopes, [1, 0], atol=0.02)
    np.testing.assert_allclose(size_slopes, [0, 1], atol=0.05)
    np.testing.assert_allclose(display.flux[0], total_flux(display.images[0]))
    expected = half_light_radius(display.images[1], pixel_scale=0.2)
    np.testing.assert_allclose(display.half_light_radius[1], expected)


def test_a_row_has_one_colour_scale(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, n_steps=3)
    assert display.axes_.shape == (2, 3)
    assert display.figure_ is display.axes_[0, 0].figure
    for row in range(2):
        images = display.images[row]
        for ax, image in zip(display.axes_[row], images, strict=True):
            np.testing.assert_array_equal(ax.images[0].get_array(), image)
            assert ax.images[0].get_clim() == (images.min(), images.max())


def test_texts(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, values=[-1, 0.25])
    assert [row[0].get_ylabel() for row in display.axes_] == ["flux", "sigma"]
    assert [ax.get_title() for ax in display.axes_[1]] == ["-1.00", "+0.25"]
    label = display.axes_[1, 0].get_xlabel()
    radius = display.half_light_radius[1, 0]
    assert label == f"F = {display.flux[1, 0]:.3g}\nR = {radius:.3g}"
    display.plot(show_measurements=False)
    assert display.axes_[1, 0].get_xlabel() == ""


@pytest.mark.parametrize(
    ("latents", "names"),
    [
        (None, ["flux", "sigma"]),
        ("sigma", ["sigma"]),
        (0, ["flux"]),
        ([2, "flux"], ["z_rest0", "flux"]),
        (np.array([1]), ["sigma"]),
    ],
)
def test_latents_by_column_or_name(model, stamp, latents, names):
    display = LatentSweepDisplay.from_estimator(
        model, stamp, latents=latents, n_steps=2
    )
    assert display.feature_names == names
    assert display.images.shape[:2] == (len(names), 2)


def test_values_for_each_latent(model, stamp):
    values = [[-1.0, 0.0, 1.0], [0.0, 0.5, 0.6]]
    display = LatentSweepDisplay.from_estimator(model, stamp, values=values)
    np.testing.assert_array_equal(display.values, values)
    display = LatentSweepDisplay.from_estimator(model, stamp, span=(0, 1), n_steps=3)
    np.testing.assert_array_equal(display.values, [[0, 0.5, 1]] * 2)


@pytest.mark.parametrize("shape", [(1, -1), (1, 20, 24), (1, 1, 20, 24)])
def test_all_layouts_give_the_same(galaxies, model, stamp, shape):
    expected = LatentSweepDisplay.from_estimator(model, stamp, n_steps=2)
    images, y = galaxies
    fitted = clone(model).fit(images.reshape(len(images), *shape[1:]), y)
    display = LatentSweepDisplay.from_estimator(fitted, stamp.reshape(shape), n_steps=2)
    np.testing.assert_array_equal(display.images, expected.images)


def test_background_is_left_out_of_the_measurements_only(model, stamp):
    plain = LatentSweepDisplay.from_estimator(model, stamp, n_steps=2)
    display = LatentSweepDisplay.from_arrays(
        plain.images + 0.5, plain.values, background=0.5
    )
    np.testing.assert_allclose(display.flux, plain.flux)
    np.testing.assert_allclose(display.half_light_radius, plain.half_light_radius)
    np.testing.assert_array_equal(display.images, plain.images + 0.5)
    assert display.feature_names == ["z_phy0", "z_phy1"]


def test_dark_images_have_no_radius():
    display = LatentSweepDisplay.from_arrays(np.zeros((1, 2, 5, 5)), [0.0, 1.0])
    assert np.isnan(display.half_light_radius).all()
    display.figure_.canvas.draw()


def test_given_axes_and_keywords_are_used(model, stamp):
    figure, axes = plt.subplots(2, 2)
    display = LatentSweepDisplay.from_estimator(
        model,
        stamp,
        n_steps=2,
        ax=axes,
        stretch="linear",
        im_kwargs={"cmap": "magma"},
    )
    assert display.figure_ is figure
    assert display.axes_.tolist() == axes.tolist()
    image = axes[1, 1].images[0]
    assert image.get_cmap().name == "magma"
    assert type(image.norm).__name__ == "Normalize"


def test_default_stretch_shows_faint_galaxies(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, n_steps=2)
    assert type(display.axes_[0, 0].images[0].norm).__name__ == "AsinhNorm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": 3}, "latents must hold integers from 0 to 2 or names.*got 3"),
        ({"latents": [-1]}, "latents must hold integers from 0 to 2.*got -1"),
        ({"latents": "size"}, "latents must hold .*got 'size'"),
        ({"latents": []}, "latents must hold at least one"),
        ({"n_steps": 0}, "n_steps must be a positive integer, got 0"),
        ({"span": (0, 1, 2)}, r"span must hold two numbers, got \(0, 1, 2\)"),
        ({"values": [[0, 1]] * 3}, "values must have one row .* or 2 rows.*got 3"),
        ({"values": [0, np.nan]}, "values contains NaN"),
        ({"channel": 1}, "channel must be an integer from 0 to 0"),
        ({"pixel_scale": -1}, "pixel_scale"),
        ({"background": "sky"}, "background must be .*got 'sky'"),
        ({"stretch": "log"}, "stretch must be"),
        ({"ax": [None] * 3}, "ax must be an array of 14 axes.*got 3"),
    ],
)
def test_bad_options(model, stamp, options, message):
    with pytest.raises(ValueError, match=message):
        LatentSweepDisplay.from_estimator(model, stamp, **options)


def test_several_stamps(model, galaxies):
    with pytest.raises(ValueError, match="X must hold one stamp, got 12"):
        LatentSweepDisplay.from_estimator(model, galaxies[0])


def test_bad_arrays():
    images = np.ones((2, 3, 5, 5))
    with pytest.raises(ValueError, match=r"values must have 3 steps.*got 2"):
        LatentSweepDisplay.from_arrays(images, [0.0, 1.0])
    with pytest.raises(ValueError, match="images must have the shape"):
        LatentSweepDisplay.from_arrays(images[0], [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="feature_names must hold 2 names"):
        LatentSweepDisplay.from_arrays(images, [0.0, 1.0, 2.0], feature_names=["flux"])


def test_unfitted_estimator(model, stamp):
    with pytest.raises(NotFittedError):
        LatentSweepDisplay.from_estimator(clone(model), stamp)
