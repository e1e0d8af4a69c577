"""Stamps in files, each written by the library of its format."""

import contextlib
import json
import os
import pickle
import shutil
import sys

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table

from sklcae import ProfileFitRegressor, _blocks, stack_planes
from sklcae._fixed_psf import gaussian_psf
from sklcae.survey import open_stamps
from tests.profiles import FWHM, NOISE, draw_truth, images_of, with_noise

SHAPE = (21, 24)
N = 30
IDS = np.arange(N) * 7 + 100


@pytest.fixture(scope="module")
def parts():
    """Arrays of stamps; some pixels have no weight."""
    truth = draw_truth(N, 1, SHAPE, flux=(4_000.0, 30_000.0))
    rng = np.random.default_rng(0)
    image = with_noise(images_of(truth, SHAPE), 1).astype(np.float32)
    weight = rng.uniform(0.5, 1.0, image.shape).astype(np.float32) / NOISE**2
    weight[:, 3, 5] = 0
    widths = np.linspace(0.8, 1.2, N) * FWHM
    psf = np.concatenate([gaussian_psf(w, (1, *SHAPE))[:, 0] for w in widths])
    return {"image": image, "weight": weight, "psf": psf.astype(np.float32)}


@pytest.fixture(scope="module")
def expected(parts):
    with np.errstate(divide="ignore"):
        variance = 1 / parts["weight"].astype(np.float64)
    return stack_planes(parts["image"], variance, parts["psf"])


def write_cubes(parts, folder, suffix=".fits"):
    hdus = [fits.PrimaryHDU()]
    for name, array in parts.items():
        hdus.append(fits.ImageHDU(array, name=name.upper()))
    hdus[1].header["BUNIT"] = "adu"
    fits.HDUList(hdus).writeto(folder / f"cubes{suffix}")
    return folder / f"cubes{suffix}"


def write_gzipped(parts, folder):
    return write_cubes(parts, folder, ".fits.gz")


def write_compressed(parts, folder):
    hdus = [fits.PrimaryHDU()]
    for name, array in parts.items():
        kwargs = {"compression_type": "GZIP_2", "quantize_level": 0}
        hdus.append(fits.CompImageHDU(array, name=name.upper(), **kwargs))
    hdus[1].header["BUNIT"] = "adu"
    fits.HDUList(hdus).writeto(folder / "cubes.fits.fz")
    return folder / "cubes.fits.fz"


def write_extensions(parts, folder):
    hdus = [fits.PrimaryHDU()]
    for row in range(N):
        for name, array in parts.items():
            header = fits.Header({"BUNIT": "adu"})
            hdu = fits.ImageHDU(array[row], header, name=name.upper(), ver=row + 1)
            hdus.append(hdu)
    fits.HDUList(hdus).writeto(folder / "extensions.fits")
    return folder / "extensions.fits"


def write_table(parts, folder):
    table = Table({"OBJECT_ID": IDS, **parts})
    table["image"].unit = "adu"
    table.write(folder / "table.fits")
    return folder / "table.fits"


def write_hdf5(parts, folder):
    with h5py.File(folder / "stamps.h5", "w") as file:
        for name, array in parts.items():
            file.create_dataset(name, data=array, chunks=(10, *SHAPE))
        file["image"].attrs["unit"] = "adu"
        file["object_id"] = IDS
    return folder / "stamps.h5"


def write_zarr(parts, folder):
    group = zarr.open_group(folder / "stamps.zarr", mode="w")
    for name, array in {**parts, "object_id": IDS}.items():
        group.create_array(name, data=array, chunks=(10, *array.shape[1:]))
    group["image"].attrs["unit"] = "adu"
    return folder / "stamps.zarr"


def as_lists(array):
    """Lists in lists, as pandas and polars write them."""
    return pa.array(array.tolist(), pa.list_(pa.list_(pa.float32())))


def as_tensors(array):
    return pa.FixedShapeTensorArray.from_numpy_ndarray(array)


def as_flat_lists(array):
    return pa.FixedSizeListArray.from_arrays(array.ravel(), array[0].size)


def to_arrow(parts, as_column=as_lists):
    """A table of stamps, with the shape of flat lists in their metadata."""
    columns, fields = [pa.array(IDS)], [pa.field("object_id", pa.int64())]
    for name, array in parts.items():
        columns.append(as_column(array))
        about = {"shape": json.dumps(SHAPE), "unit": "adu"}
        fields.append(pa.field(name, columns[-1].type, metadata=about))
    return pa.table(columns, pa.schema(fields))


def write_parquet(parts, folder, as_column=as_lists):
    path = folder / "stamps.parquet"
    pq.write_table(to_arrow(parts, as_column), path, row_group_size=11)
    return path


def write_parquet_tensors(parts, folder):
    return write_parquet(parts, folder, as_tensors)


def write_parquet_flat(parts, folder):
    return write_parquet(parts, folder, as_flat_lists)


def write_parquet_parts(parts, folder):
    table = to_arrow(parts)
    for number, first in enumerate((0, 13, 25)):
        sub = folder / "run" / f"healpix={number}"
        sub.mkdir(parents=True)
        part = table[first : (13, 25, N)[number]]
        pq.write_table(part, sub / "part0.parquet", row_group_size=8)
    (folder / "run" / "_SUCCESS").touch()
    return folder / "run"


def write_arrow(parts, folder):
    table = to_arrow(parts, as_tensors)
    with pa.ipc.new_file(folder / "stamps.arrow", table.schema) as file:
        file.write_table(table, 11)
    return folder / "stamps.arrow"


def write_stream(parts, folder):
    table = to_arrow(parts)
    with pa.ipc.new_stream(folder / "stamps.arrow", table.schema) as file:
        file.write_table(table, 11)
    return folder / "stamps.arrow"


def write_feather(parts, folder):
    path = folder / "stamps.feather"
    pa.feather.write_feather(to_arrow(parts), path, chunksize=11, compression="zstd")
    return path


def write_fits_files(parts, folder):
    for row in np.random.default_rng(0).permutation(N):
        hdus = [fits.PrimaryHDU()]
        for name, array in parts.items():
            header = fits.Header({"BUNIT": "adu"})
            hdus.append(fits.ImageHDU(array[row], header, name=name))
        (folder / "files").mkdir(exist_ok=True)
        fits.HDUList(hdus).writeto(folder / "files" / f"{IDS[row]}.fits")
    return folder / "files"


ARROW = (
    *(write_parquet, write_parquet_tensors, write_parquet_flat, write_parquet_parts),
    *(write_arrow, write_stream, write_feather),
)
WITH_IDS = (write_table, write_hdf5, write_zarr, *ARROW)
SLOW = {
    write_gzipped: "compressed with gzip, which is slow",
    write_fits_files: "one FITS file for each stamp, which is slow .* a FITS cube, or",
}
WRITERS = (*WITH_IDS, write_cubes, write_compressed, write_extensions, *SLOW)


@pytest.mark.parametrize("write", WRITERS)
def test_stamps_are_those_of_stack_planes(write, parts, expected, tmp_path):
    path = write(parts, tmp_path)
    opened = contextlib.nullcontext()
    if write in SLOW:
        opened = pytest.warns(UserWarning, match=SLOW[write])
    with opened:
        stamps = open_stamps(path)
    with stamps:
        assert stamps.shape == expected.shape == (len(stamps), *expected.shape[1:])
        assert stamps.planes == ("image", "variance", "psf")
        assert stamps.unit == "adu"
        assert stamps.dtype == stamps[:2].dtype == np.float32
        ids = IDS if write in WITH_IDS else np.arange(N)
        ids = IDS.astype(str) if write is write_fits_files else ids
        np.testing.assert_array_equal(stamps.ids, ids)
        assert stamps.ra is None
        assert stamps.dec is None
        for rows in (slice(None), slice(3, 9), slice(20, 2, -4), [4, 1], -1, slice(0)):
            np.testing.assert_array_equal(stamps[rows], expected[rows])
        np.testing.assert_array_equal(np.asarray(stamps), expected)
        opened = contextlib.nullcontext()
        if write in SLOW:
            opened = pytest.warns(UserWarning, match=SLOW[write])
        with opened:
            again = pickle.loads(pickle.dumps(stamps))
        np.testing.assert_array_equal(again[5:7], expected[5:7])
        again.close()
        assert "with the planes" in repr(stamps)


MEASURED = (write_cubes, write_hdf5, write_zarr, write_parquet_parts)


@pytest.mark.parametrize("write", MEASURED)
def test_stamps_are_measured(write, parts, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(_blocks, "BLOCK_SIZE", 2**15)
    model = ProfileFitRegressor(planes=("image", "variance", "psf"), allow_nan=True)
    model.fit(expected)
    with open_stamps(write(parts, tmp_path)) as stamps:
        assert len(_blocks.blocks_of(stamps)) > 2
        np.testing.assert_array_equal(model.predict(stamps), model.predict(expected))


def test_files_beside_a_numpy_file(parts, expected, tmp_path):
    for name, array in parts.items():
        np.save(tmp_path / f"{name}.npy", array)
    path = tmp_path / "image.npy"
    stamps = open_stamps(path, inverse_variance="weight.npy", psf="psf.npy")
    np.testing.assert_array_equal(stamps[:], expected)
    alone = open_stamps(path)
    assert alone.planes == ("image",)
    np.testing.assert_array_equal(alone[:][:, 0], parts["image"])


def test_one_psf_and_one_variance_for_all(parts, tmp_path):
    psf = gaussian_psf(FWHM, (1, 15, 15))[0, 0]
    hdus = [
        fits.PrimaryHDU(parts["image"].astype(">f8")),
        fits.ImageHDU(np.full(SHAPE, 4.0), name="VARIANCE"),
        fits.ImageHDU(psf, name="PSF"),
        fits.ImageHDU(np.eye(*SHAPE).astype(np.uint8), name="MASK"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "one.fits")
    wanted = stack_planes(parts["image"], 4.0, psf, mask=np.eye(*SHAPE))
    with open_stamps(tmp_path / "one.fits") as stamps:
        np.testing.assert_allclose(stamps[:], wanted, rtol=1e-6)


def test_settings_of_the_images(parts, tmp_path):
    path = write_hdf5(parts, tmp_path)
    with open_stamps(path) as stamps:
        assert (stamps.pixel_scale, stamps.gain) == (None, None)
    with h5py.File(path, "a") as file:
        file["image"].attrs.update({"pixel_scale": 0.3, "gain": "as in the header"})
    with open_stamps(path) as stamps:
        assert (stamps.pixel_scale, stamps.gain) == (0.3, None)
    with open_stamps(path, pixel_scale=0.2) as stamps:
        assert stamps.pixel_scale == 0.2


def test_pixels_of_another_side(parts, expected, tmp_path, recwarn):
    settings = {"planes": ("image", "variance", "psf"), "allow_nan": True}
    path = write_hdf5(parts, tmp_path)
    for side in (None, 1.0, 0.2):
        model = ProfileFitRegressor(pixel_scale=side, **settings).fit(expected)
        with open_stamps(path, pixel_scale=0.2) as stamps:
            model.predict(stamps)
    assert not recwarn
    with (
        open_stamps(path, pixel_scale=0.263) as stamps,
        pytest.warns(
            UserWarning, match=r"side of 0\.263, and 'pixel_scale' .* is 0\.2"
        ),
    ):
        model.predict(stamps)


def test_the_images_are_the_cube_without_another_use(parts, expected, tmp_path):
    hdus = [fits.PrimaryHDU(parts["image"])]
    hdus += [fits.ImageHDU(parts[name], name=name) for name in ("weight", "psf")]
    fits.HDUList(hdus).writeto(tmp_path / "primary.fits")
    with open_stamps(tmp_path / "primary.fits") as stamps:
        np.testing.assert_array_equal(stamps[:], expected)


def test_multimodal_universe(parts, tmp_path):
    bands = np.stack([parts["image"], 2 * parts["image"]], axis=1)
    good = np.ones(bands.shape, bool)
    good[:, 1, 4, 4] = False
    fwhm, scale = np.tile([0.7, 0.9], (N, 1)), np.full((N, 2), 0.2)
    with h5py.File(tmp_path / "001.hdf5", "w") as file:
        file["image_array"], file["image_mask"] = bands, good
        file["image_ivar"] = np.full(bands.shape, 0.25)
        file["image_psf_fwhm"], file["image_scale"] = fwhm, scale
        file["object_id"] = np.array([f"id{i}" for i in range(N)], dtype="S8")
    with open_stamps(tmp_path / "001.hdf5") as stamps:
        assert stamps.shape == (N, 6, *SHAPE)
        psf = np.concatenate([gaussian_psf(w / 0.2, (1, *SHAPE)) for w in (0.7, 0.9)])
        wanted = stack_planes(bands, 4.0, np.tile(psf[:, 0], (N, 1, 1, 1)), mask=~good)
        np.testing.assert_allclose(stamps[:], wanted, rtol=1e-5)
        assert stamps.ids[3] == "id3"
    with open_stamps(tmp_path / "001.hdf5", mask_is_good=False, psf_fwhm=None) as bad:
        assert bad.planes == ("image", "variance")
        assert np.isnan(bad[0][:2]).sum() == good[0].sum()


def multimodal_universe(parts, in_lists):
    """Bands and a table as the Multimodal Universe has them on Hugging Face."""
    bands = np.stack([parts["image"], 2 * parts["image"]], axis=1)
    good = np.ones(bands.shape, bool)
    good[:, 1, 4, 4] = False
    fields = {
        "band": np.tile(["g", "r"], (N, 1)),
        "flux": bands,
        "ivar": np.full(bands.shape, 0.25, np.float32),
        "mask": good,
        "psf_fwhm": np.tile(np.float32([0.7, 0.9]), (N, 1)),
        "scale": np.full((N, 2), 0.2, np.float32),
    }
    rows = [{k: v[i].tolist() for k, v in fields.items()} for i in range(N)]
    if in_lists:
        rows = [
            [{k: v[band] for k, v in row.items()} for band in range(2)] for row in rows
        ]
    names = [f"id{i}" for i in range(N)]
    table = pa.table({"image": rows, "object_id": names, "ra": np.linspace(9, 10, N)})
    return bands, good, table.append_column("dec", pa.array(np.linspace(-3, 3, N)))


@pytest.mark.parametrize("in_lists", [False, True])
@pytest.mark.parametrize("end", ["parquet", "arrow"])
def test_multimodal_universe_on_hugging_face(parts, tmp_path, in_lists, end):
    bands, good, table = multimodal_universe(parts, in_lists)
    path = tmp_path / f"train-00000-of-00001.{end}"
    if end == "parquet":
        pq.write_table(table, path, row_group_size=10)
    else:
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table, 10)
    with open_stamps(path) as stamps:
        assert stamps.planes == ("image", "variance", "psf")
        assert stamps.chunks == (10, 6, *SHAPE)
        psf = np.concatenate([gaussian_psf(w / 0.2, (1, *SHAPE)) for w in (0.7, 0.9)])
        wanted = stack_planes(bands, 4.0, np.tile(psf[:, 0], (N, 1, 1, 1)), mask=~good)
        np.testing.assert_allclose(stamps[:], wanted, rtol=1e-5)
        assert stamps.ids[3] == "id3"
        np.testing.assert_array_equal(stamps.ra, np.linspace(9, 10, N))
        np.testing.assert_array_equal(stamps.dec, np.linspace(-3, 3, N))


def test_one_mask_for_all_bands(parts, tmp_path):
    bands = np.stack([parts["image"], 2 * parts["image"]], axis=1)
    good = np.ones(parts["image"].shape, bool)
    good[:, 4, 4] = False
    with h5py.File(tmp_path / "001.hdf5", "w") as file:
        file["image_array"], file["image_mask"] = bands, good
    with open_stamps(tmp_path / "001.hdf5") as stamps:
        wanted = stack_planes(bands, mask=np.stack([~good, ~good], axis=1))
        np.testing.assert_array_equal(stamps[:], wanted)


def test_flat_rows(parts, tmp_path):
    squares = parts["image"][:, :20, :20]
    psf = gaussian_psf(FWHM, (1, 9, 9))[0, 0]
    table = pa.table(
        {
            "image": as_flat_lists(squares),
            "psf": as_flat_lists(np.tile(psf.astype(np.float32), (N, 1, 1))),
        }
    )
    pq.write_table(table, tmp_path / "squares.parquet")
    wanted = stack_planes(squares, psf=np.tile(psf, (N, 1, 1)))
    with open_stamps(tmp_path / "squares.parquet") as stamps:
        np.testing.assert_allclose(stamps[:], wanted, rtol=1e-6)
    flat = parts["image"].reshape(N, -1)
    np.save(tmp_path / "flat.npy", flat)
    for shape, wanted in ((SHAPE, (1, *SHAPE)), ((2, 21, 12), (2, 21, 12))):
        stamps = open_stamps(tmp_path / "flat.npy", image_shape=shape)
        np.testing.assert_array_equal(stamps[:], flat.reshape(N, *wanted))
    with pytest.raises(ValueError, match=r"image_shape must be .* the 504 values"):
        open_stamps(tmp_path / "flat.npy", image_shape=(20, 20))
    # An image of a field is not taken for flat rows of 20 x 20 pixels.
    np.save(tmp_path / "image.npy", np.zeros((400, 400)))
    with pytest.raises(ValueError, match=r"must have the shape .* Got \(400, 400\)"):
        open_stamps(tmp_path / "image.npy", image="image.npy")
    Table({"image": flat}).write(tmp_path / "flat.fits")
    with pytest.raises(ValueError, match=r"image_shape must be .* the 504 values"):
        open_stamps(tmp_path / "flat.fits")
    with open_stamps(tmp_path / "flat.fits", image_shape=SHAPE) as stamps:
        np.testing.assert_array_equal(stamps[:][:, 0], parts["image"])
    with pytest.raises(ValueError, match=r"positive integers, or None. Got 504"):
        open_stamps(tmp_path / "flat.npy", image_shape=504)
    with pytest.raises(ValueError, match=r"the shape of the images, \(21, 24\)"):
        open_stamps(write_parquet(parts, tmp_path), image_shape=(24, 21))


def test_wrong_columns(parts, tmp_path):
    path = tmp_path / "wrong.parquet"

    def write(rows, kind):
        pq.write_table(pa.table({"image": pa.array(rows, kind)}), path, None, "2.6")
        return open_stamps(path)

    lists = pa.list_(pa.list_(pa.float32()))
    rows = parts["image"].tolist()
    stamps = write(rows[:5] + [None] + rows, lists)
    with pytest.raises(ValueError, match=r"'image' must have no .* Got 1.* row 5"):
        stamps[2:]
    some = [[list(line) for line in stamp] for stamp in rows]
    some[7][20][3] = None
    stamps = write(some, lists)
    with pytest.raises(ValueError, match=r"no nulls; a masked pixel .* in row 7"):
        stamps[:]
    some[7][20][3] = np.nan
    stamps = write(some, lists)
    assert np.argwhere(np.isnan(stamps[:]))[0].tolist() == [7, 0, 20, 3]
    some[7][20].append(1.0)
    stamps = write(some, lists)
    with pytest.raises(ValueError, match=r"one length. Got from 24 to 25.* row 7"):
        stamps[:]
    for end in ("parquet", "arrow"):
        (tmp_path / f"broken.{end}").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=rf"broken.{end}', which cannot be read"):
            open_stamps(tmp_path / f"broken.{end}")
    with pytest.raises(ValueError, match="it has no rows"):
        write([], lists)
    run = write_parquet_parts(parts, tmp_path)
    pq.write_table(pa.table({"image": rows}), run / "z.parquet")
    with pytest.raises(ValueError, match=r"'z.parquet' must have the columns of"):
        open_stamps(run)


def test_lists_of_another_shape_in_a_later_row_group(parts, tmp_path):
    rows = parts["image"].tolist()
    rows[12:] = parts["image"][12:, :20].tolist()
    table = pa.table({"image": pa.array(rows, pa.list_(pa.list_(pa.float32())))})
    pq.write_table(table, tmp_path / "two.parquet", row_group_size=12)
    stamps = open_stamps(tmp_path / "two.parquet")
    with pytest.raises(ValueError, match=r"shape in all rows.* from row 12"):
        stamps[:]


def test_wrong_widths_have_their_rows(parts, tmp_path):
    widths = pa.array([0.7] * 9 + [None] + [0.7] * (N - 10), pa.float32())
    table = pa.table({"image": as_lists(parts["image"]), "psf_fwhm": widths})
    pq.write_table(table, tmp_path / "widths.parquet")
    with open_stamps(tmp_path / "widths.parquet", pixel_scale=0.2) as stamps:
        assert stamps[:9].shape == (9, 2, *SHAPE)
        with pytest.raises(
            ValueError, match=r"psf_fwhm .* Got \[nan\].* first in row 4"
        ):
            stamps[5:]


# cutana ------------------------------------------------------------------------------


def write_cutana(images, folder, numbers=(2, 10), **options):
    """A run with batches, as cutana writes them with images_to_zarr and pandas."""
    run = folder / "cutouts"
    for number, rows in zip(
        numbers, np.array_split(range(N), len(numbers)), strict=True
    ):
        batch = run / f"batch_cutout_process_{number}_0a1b2c"
        batch.mkdir(parents=True)
        group = zarr.open_group(batch / "images.zarr", mode="w")
        last = np.moveaxis(images[rows], 1, -1)
        group.create_array("images", data=last, chunks=(9, *last.shape[1:]), **options)
        table = {
            "source_id": [f"TILE_{i}" for i in rows],
            "ra": np.linspace(150, 151, N)[rows],
            "dec": np.linspace(2, 3, N)[rows],
            "diameter_pixel": pa.nulls(len(rows)) if rows[0] else [64.0] * len(rows),
            "tile": [["a.fits"]] * len(rows),
        }
        pq.write_table(pa.table(table), batch / "images_metadata.parquet")
    return run


@pytest.fixture(scope="module")
def squares(parts):
    square = parts["image"][:, :20, :20]
    return np.stack([square, 2 * square], axis=1)


def test_cutana(squares, tmp_path):
    run = write_cutana(squares, tmp_path)
    with open_stamps(run) as stamps:
        assert stamps.planes == ("image",)
        assert stamps.chunks == (9, 2, 20, 20)
        np.testing.assert_array_equal(stamps[:], squares)
        np.testing.assert_array_equal(stamps[12:19], squares[12:19])
        assert stamps.ids.tolist() == [f"TILE_{i}" for i in range(N)]
        np.testing.assert_array_equal(stamps.ra, np.linspace(150, 151, N))
        np.testing.assert_array_equal(stamps.dec, np.linspace(2, 3, N))
    batch = run / "batch_cutout_process_10_0a1b2c"
    for path in (batch, batch / "images.zarr"):
        stamps = open_stamps(path)
        np.testing.assert_array_equal(stamps[:], squares[15:])
        assert stamps.ids[0] == "TILE_15"


def test_cutana_normalised(squares, tmp_path):
    low, high = squares.min((1, 2, 3)), squares.max((1, 2, 3))
    stretched = (squares.T - low) / (high - low)
    stretched = stretched.T.astype(np.float32)
    run = write_cutana(stretched, tmp_path / "float")
    with pytest.raises(ValueError, match=r"from 0 to 1 .*_method = 'none'"):
        open_stamps(run)
    run = write_cutana((255 * stretched).astype(np.uint8), tmp_path / "bytes")
    with pytest.raises(ValueError, match=r"normalised, with the type uint8"):
        open_stamps(run)


def test_wrong_cutana(squares, parts, tmp_path):
    run = write_cutana(squares[:, :, :18], tmp_path / "oblong")
    with pytest.raises(ValueError, match=r"H, W, C\) with H = W.*\(15, 18, 20, 2\)"):
        open_stamps(run)
    run = write_cutana(squares, tmp_path / "rows")
    table = pa.table({"source_id": ["a", "b"]})
    path = run / "batch_cutout_process_10_0a1b2c" / "images_metadata.parquet"
    pq.write_table(table, path)
    with pytest.raises(ValueError, match=r"a row for each of 15 images. Got 2"):
        open_stamps(run)
    shutil.rmtree(run / "batch_cutout_process_10_0a1b2c")
    write_cutana(squares[:, :, :18, :18], run.parent, (1,))
    with pytest.raises(ValueError, match="batches have images of different shapes"):
        open_stamps(run)


# Folders, slow files, positions -------------------------------------------------------


def test_folders_without_stamps(parts, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"a folder with files .* with 1 other files"):
        open_stamps(tmp_path)
    path = write_fits_files(parts, tmp_path)
    fits.PrimaryHDU().writeto(path / "000.fits")
    with pytest.raises(ValueError, match="image must be the name of an array"):
        open_stamps(path)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((5, 5)), name="IMAGE")]
    fits.HDUList(hdus).writeto(path / "000.fits", overwrite=True)
    with pytest.warns(UserWarning, match="one FITS file"):
        stamps = open_stamps(path)
    with pytest.raises(ValueError, match=r"'100.fits' must have .*\(5, 5\), as '000"):
        stamps[:]


def test_gzipped_hdf5(parts, expected, tmp_path):
    with h5py.File(tmp_path / "slow.h5", "w") as file:
        for name, array in parts.items():
            file.create_dataset(name, data=array, compression="gzip")
    with pytest.warns(UserWarning, match=r"gzip, which is slow.*Zarr with about a hun"):
        stamps = open_stamps(tmp_path / "slow.h5")
    with stamps:
        np.testing.assert_array_equal(stamps[3:9], expected[3:9])


def test_row_groups_of_one_stamp(parts, tmp_path):
    path = tmp_path / "slow.parquet"
    pq.write_table(to_arrow(parts), path, row_group_size=1)
    with pytest.warns(UserWarning, match="has 1 stamps in each chunk"):
        open_stamps(path)


def test_positions(parts, tmp_path):
    ra, dec = np.linspace(10, 20, N), np.linspace(-5, 5, N)
    table = Table({"ID": IDS, "RA": ra, "DELTA_J2000": dec, "x": np.deg2rad(ra)})
    table["x"].unit = "rad"
    hdus = [fits.PrimaryHDU(parts["image"]), fits.table_to_hdu(table)]
    fits.HDUList(hdus).writeto(tmp_path / "cube.fits")
    with open_stamps(tmp_path / "cube.fits") as stamps:
        assert stamps.ra.dtype == np.float64
        np.testing.assert_array_equal(stamps.ra, ra)
        np.testing.assert_array_equal(stamps.dec, dec)
        np.testing.assert_array_equal(stamps.ids[4:6], IDS[4:6])
    with open_stamps(tmp_path / "cube.fits", ra="x", dec=None) as stamps:
        np.testing.assert_allclose(stamps.ra, ra, rtol=1e-12)
        assert stamps.dec is None
    with pytest.raises(ValueError, match=r"ra must have the shape .*for 'PRIMARY'"):
        open_stamps(tmp_path / "cube.fits", image="PRIMARY", ra="PRIMARY")


@pytest.mark.parametrize("write", [write_cubes, write_zarr, write_parquet_parts])
def test_identity(write, parts, tmp_path):
    path = write(parts, tmp_path)

    def identity(**options):
        with open_stamps(path, **options) as stamps:
            return stamps.identity

    first = identity()
    assert json.loads(json.dumps(first)) == first == identity()
    assert first["name"] == path.name
    assert first["shape"] == [N, 3, *SHAPE]
    assert str(tmp_path) not in json.dumps(first)
    other = identity(psf=None, psf_fwhm=None, image_shape=SHAPE)
    assert other["planes"] == ["image", "variance"]
    assert {k for k in first if first[k] != other[k]} == {
        *("shape", "planes", "options", "pixels")
    }
    json.dumps(identity(pixel_scale=np.float32(0.2)))
    file = path if path.is_file() else sorted(p for p in path.rglob("*.*"))[-1]
    os.utime(file, ns=(1, 1))
    touched = identity()
    assert {k for k in first if first[k] != touched[k]} == {"files"}
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    image = parts["image"].copy()
    image[N // 2, 5, 5] += 1
    write({**parts, "image": image}, tmp_path)
    replaced = identity()
    assert {k for k in first if first[k] != replaced[k]} == {"files", "pixels"}


def test_identity_has_the_files_beside(parts, tmp_path):
    for name, array in parts.items():
        np.save(tmp_path / f"{name}.npy", array)
    options = {"inverse_variance": "weight.npy"}
    first = open_stamps(tmp_path / "image.npy", **options).identity
    os.utime(tmp_path / "psf.npy", ns=(1, 1))
    assert open_stamps(tmp_path / "image.npy", **options).identity == first
    os.utime(tmp_path / "weight.npy", ns=(1, 1))
    other = open_stamps(tmp_path / "image.npy", **options).identity
    assert other["files"] != first["files"]


def test_scaled_integers(tmp_path):
    counts = np.arange(5 * 6 * 6, dtype=np.uint16).reshape(5, 6, 6)
    fits.PrimaryHDU(counts).writeto(tmp_path / "counts.fits")
    with open_stamps(tmp_path / "counts.fits") as stamps:
        np.testing.assert_array_equal(stamps[:][:, 0], counts)


def test_slow_chunks(parts, tmp_path):
    image = parts["image"]
    array = zarr.create_array(
        tmp_path / "slow.zarr", shape=image.shape, chunks=(1, *SHAPE), dtype="f4"
    )
    array[:] = image
    with pytest.warns(UserWarning, match="has 1 stamps in each chunk, which is slow"):
        stamps = open_stamps(tmp_path / "slow.zarr")
    np.testing.assert_array_equal(stamps[:][:, 0], image)


def test_wrong_stamps_have_their_rows(parts, tmp_path):
    psf = parts["psf"].copy()
    psf[17] = 0
    path = write_hdf5({**parts, "psf": psf}, tmp_path)
    with open_stamps(path) as stamps:
        with pytest.raises(ValueError, match="first in row 7") as error:
            stamps[10:20]
        assert error.value.__notes__[0].startswith("Rows are counted from row 10 of")


def test_wrong_files(parts, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be a file.*nothing.npy"):
        open_stamps(tmp_path / "nothing.npy")
    (tmp_path / "stamps.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"ends in one of .npy, .fits"):
        open_stamps(tmp_path / "stamps.txt")
    for end in ("npy", "fits", "h5"):
        (tmp_path / f"broken.{end}").write_bytes(b"nothing of use")
        with pytest.raises(ValueError, match=rf"broken.{end}', which cannot be read"):
            open_stamps(tmp_path / f"broken.{end}")
    path = write_hdf5(parts, tmp_path)
    with pytest.raises(ValueError, match=r"psf must be the name .* \['image', 'obj"):
        open_stamps(path, psf="seeing")
    with pytest.raises(ValueError, match=r"id must have the shape .* for 'image'"):
        open_stamps(path, id="image")
    with pytest.raises(ValueError, match=r"image must have the shape .*Got \(30,\)"):
        open_stamps(path, image="object_id")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"], file["b"] = parts["image"], parts["image"]
        file["image_psf_fwhm"] = np.ones(N)
    with pytest.raises(ValueError, match=r"image must be the name .*'a': \(30, 21"):
        open_stamps(tmp_path / "other.h5")
    with pytest.raises(ValueError, match="pixel_scale must be a number"):
        open_stamps(tmp_path / "other.h5", image="a")
    hdus = [fits.PrimaryHDU()]
    hdus += [fits.ImageHDU(np.zeros((4, k)), name="SCI") for k in (4, 5)]
    fits.HDUList(hdus).writeto(tmp_path / "mixed.fits")
    with pytest.raises(ValueError, match=r"'SCI' have different shapes"):
        open_stamps(tmp_path / "mixed.fits")


def test_a_missing_library_names_the_extra(parts, tmp_path, monkeypatch):
    path = write_hdf5(parts, tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"open_stamps needs h5py.*sklcae\[survey\]"):
        open_stamps(path)


def write_file(path, **images):
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus = [fits.ImageHDU(array, name=name) for name, array in images.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


@pytest.mark.filterwarnings("ignore:.*slow to read")
def test_hdus_of_fits_files_are_found_by_name(tmp_path):
    sci, ivar = np.full((4, 4), 2.0), np.full((4, 4), 0.25)
    write_file(tmp_path / "a.fits", SCI=sci, IVAR=ivar)
    write_file(tmp_path / "b.fits", IVAR=ivar, SCI=sci)
    with open_stamps(tmp_path) as stamps:
        np.testing.assert_allclose(stamps[:][:, 0], 2.0)
        np.testing.assert_allclose(stamps[:][:, 1], 4.0)
    write_file(tmp_path / "c.fits", IMAGE=sci, IVAR=ivar)
    write_file(tmp_path / "d.fits", SCI=sci[:3], IVAR=ivar)
    with open_stamps(tmp_path) as stamps:
        with pytest.raises(ValueError, match=r"'c.fits' must have an image in an HDU"):
            stamps[2]
        with pytest.raises(ValueError, match=r"'d.fits' must have a stamp of the sha"):
            stamps[3]


@pytest.mark.filterwarnings("ignore:.*slow to read")
def test_ids_of_fits_files(tmp_path):
    image = np.ones((4, 4))
    write_file(tmp_path / "J120.5+02.fits", SCI=image)
    write_file(tmp_path / "J120.7+02.fits.gz", SCI=image)
    with open_stamps(tmp_path) as stamps:
        assert sorted(stamps.ids) == ["J120.5+02", "J120.7+02"]
    write_file(tmp_path / "east" / "J120.5+02.fits", SCI=image)
    with open_stamps(tmp_path) as stamps:
        assert sorted(stamps.ids) == ["J120.5+02", "J120.7+02", "east/J120.5+02"]
    write_file(tmp_path / "J120.5+02.fit", SCI=image)
    with open_stamps(tmp_path) as stamps:
        assert len(set(stamps.ids)) == 4
        assert "J120.5+02.fit" in stamps.ids


def write_with_images(table, path):
    """Write a table as astropy does, and images of 4 x 4 pixels with it."""
    images = np.ones((len(table), 16))
    if path.suffix == ".fits":
        table = table.copy()
        table["image"] = images
        table.write(path)
        return
    # astropy writes no images to Parquet.
    table.write(path)
    columns = pq.read_table(path)
    pq.write_table(columns.append_column("image", pa.array(images.tolist())), path)


@pytest.mark.filterwarnings("ignore:.*slow to read")
@pytest.mark.parametrize("end", [".parquet", ".fits"])
def test_positions_of_any_unit_of_angles(end, tmp_path):
    table = Table({"ra": [1.0, 2, 3], "dec": [3.6, 7.2, 9]})
    table["ra"].unit, table["dec"].unit = "hourangle", "mas"
    if end == ".fits":
        # FITS has no hour angles.
        table["ra"].unit = "arcmin"
    write_with_images(table, tmp_path / f"a{end}")
    factor = 15 if end == ".parquet" else 1 / 60
    with open_stamps(tmp_path / f"a{end}") as stamps:
        np.testing.assert_allclose(stamps.ra, factor * np.arange(1, 4), rtol=1e-12)
        np.testing.assert_allclose(stamps.dec, [1e-6, 2e-6, 2.5e-6], rtol=1e-12)
    table["dec"].unit = "m"
    write_with_images(table, tmp_path / f"b{end}")
    with pytest.raises(ValueError, match=r"dec must have a unit of angles.*Got 'm'"):
        open_stamps(tmp_path / f"b{end}")
    with open_stamps(tmp_path / f"b{end}", dec=None) as stamps:
        assert stamps.dec is None
