"""The description of a Bunch of make_galaxies: recipe, units and settings."""

from numbers import Real

import numpy as np

from sklcae.datasets._bands import split_bands
from sklcae.datasets._parameters import ALLOWED, InVariants, is_zero
from sklcae.datasets._telescope import DETECTOR

_DESCR = """\
Simulated galaxies
------------------

{n_samples} stamps of {height} x {width} pixels at {pixel_scale} arcsec per pixel, with
{contents}, rendered with GalSim.

Recipe
    A Sersic profile, sheared by its ellipticity (a^2-b^2)/(a^2+b^2) along its position
    angle, {psf},
    integrated over the pixels.
    {noise}{extras}

Data
    data    {shape} float32, ADU
    images  the images with the shape {images_shape}
    planes  {planes}
    frame   {columns}
    target  {target_names}

Parameters (frame has the values of every stamp)
    flux               {flux}, ADU{first_band}
    half_light_radius  {half_light_radius}, arcsec, circularised: sqrt(a b)
    sersic_index       {sersic_index}, step {sersic_index_step}
    ellipticity        {ellipticity}
    position_angle     {position_angle}, degrees counterclockwise from +x
    x0                 {x0}, pixels from the outer corner of the first pixel
    y0                 {y0}, pixels from the outer corner of the first pixel
    e1, e2             ellipticity * cos and sin of 2 position_angle
"""


def describe(settings, galaxies, *, sersic_index_step):
    """Return the description of a Bunch that was made with some `Settings`."""
    height, width = galaxies["image_shape"]
    bands = settings.bands
    texts = {name: parameter_text(settings.galaxies[name]) for name in ALLOWED}
    given = split_bands(settings.telescope, bands)
    return _DESCR.format(
        n_samples=len(galaxies["frame"]),
        height=height,
        width=width,
        pixel_scale=galaxies["pixel_scale"],
        contents=_contents(settings.neighbours["neighbours"]),
        shape=galaxies["data"].shape,
        images_shape=galaxies["images"].shape,
        planes=", ".join(galaxies["planes"]),
        target_names=", ".join(galaxies["target_names"]),
        columns=", ".join(galaxies["frame"].columns),
        sersic_index_step=sersic_index_step,
        first_band="" if bands == (None,) else f", in band {bands[0]}",
        psf=_of_each_band(psf_text, given, bands),
        noise=_of_each_band(noise_text, given, bands)
        if galaxies["noise"]
        else "No noise.",
        extras="".join(f"\n    {line}" for line in _extras(settings)),
        **texts,
    )


def _contents(neighbours):
    if is_zero(neighbours):
        return "one galaxy each"
    return "a central galaxy and its neighbours"


def _of_each_band(text, given, bands):
    """Return one text for all bands, or one for each band if they differ."""
    texts = [text(one) for one in given]
    if len(set(texts)) == 1:
        return texts[0]
    named = zip(bands, texts, strict=True)
    return ";\n    ".join(f"in band {band} {one}" for band, one in named)


def psf_text(settings):
    """Return a description of the PSF in one band."""
    psf = settings["psf"]
    if psf is None:
        return "without PSF"
    if not isinstance(psf, str):
        n_psfs = 1 if np.ndim(psf) == 2 else len(psf)
        return f"convolved with an effective PSF from {n_psfs} image(s)"
    fwhm = parameter_text(settings["psf_fwhm"])
    text = f"convolved with a {psf} PSF of FWHM {fwhm} arcsec"
    if psf == "moffat":
        text += f" and beta {parameter_text(settings['moffat_beta'])}"
    if not is_zero(settings["psf_ellipticity"]):
        text += (
            f",\n    ellipticity {parameter_text(settings['psf_ellipticity'])} along "
            f"the angle {parameter_text(settings['psf_position_angle'])} degrees"
        )
    return text


def noise_text(settings):
    """Return a description of the noise in one band."""
    sky_level, read_noise = (parameter_text(settings[name]) for name in DETECTOR)
    return (
        f"Poisson noise of galaxy and sky (sky_level {sky_level} ADU per "
        f"pixel, subtracted;\n    gain {settings['gain']} electrons per ADU) and read "
        f"noise ({read_noise} electrons)."
    )


def _extras(settings):
    """Yield a line for each further setting that is used."""
    if settings.bands != (None,):
        yield (
            f"Bands {', '.join(settings.bands)}; colours "
            f"{_colors_text(settings.colors)}, magnitudes of a band minus the next."
        )
    if not is_zero(settings.bulges["bulge_fraction"]):
        yield "Bulge and disc: " + _listed(settings.bulges)
    if not is_zero(settings.neighbours["neighbours"]):
        yield "Neighbours: " + _listed(settings.neighbours)
    used = {
        name: value
        for name, value in settings.defects.items()
        if value is not None and not is_zero(value)
    }
    if used:
        yield "Defects: " + _listed(used)


def _listed(settings):
    texts = (f"{name} {parameter_text(value)}" for name, value in settings.items())
    return ",\n        ".join(texts) + "."


def _colors_text(colors):
    if isinstance(colors, list):
        return "; ".join(map(parameter_text, colors))
    return parameter_text(colors)


def parameter_text(value):
    """Return a description of the values of one parameter."""
    if isinstance(value, InVariants):
        return parameter_text(value.value)
    if isinstance(value, tuple):
        return "uniform in [{}, {}]".format(*value)
    if isinstance(value, Real):
        return f"{value}"
    if hasattr(value, "support"):
        return "drawn from a distribution with the support [{:g}, {:g}]".format(
            *value.support()
        )
    return "given for every stamp"
