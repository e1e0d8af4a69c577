"""The code that a user would write without sklcae: plain PyTorch, plain GalSim."""

import galsim
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests._torch.networks.reference import PlainPaperNetwork

SKY_LEVEL, GAIN, READ_NOISE = 10.0, 1.0, 2.0
PIXEL_SCALE, PSF_FWHM, SIDE = 0.2, 0.7, 64


class PlainNetwork(PlainPaperNetwork):
    """The plain network as separate encoder and decoder, with logits as output."""

    def encode(self, x):
        """Return z_phy and z_rest."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.dense_phy(x), F.relu(self.dense_rest(x))

    def decode(self, latents):
        """Return the logits of the images."""
        x = F.relu(self.dense_decoder(latents))
        x = x.reshape(-1, 64, self.small, self.small)
        x = F.relu(self.upconv1(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = F.relu(self.upconv2(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_out(x)

    def forward(self, x):
        """Return z_phy, z_rest and the logits of the images."""
        z_phy, z_rest = self.encode(x)
        return z_phy, z_rest, self.decode(torch.cat([z_phy, z_rest], 1))


def scale(X):
    """Return images (n, 1, H, W) in [0, 1], the minimum and the range."""
    side = round(X.shape[1] ** 0.5)
    low, span = X.min(), np.ptp(X)
    return ((X - low) / span).reshape(-1, 1, side, side), low, span


def train(X, y, epochs, clock, device="cpu"):
    """Train the paper's network, and return it with the seconds of each epoch."""
    images, _, _ = scale(X)
    targets = ((y - y.mean(0)) / y.std(0)).astype(np.float32)
    dataset = TensorDataset(torch.from_numpy(images), torch.from_numpy(targets))
    loader = DataLoader(dataset, batch_size=64, shuffle=True)
    network = PlainNetwork(1, images.shape[-1], y.shape[1], 64).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    durations = []
    for _ in range(epochs):
        start = clock()
        for batch in loader:
            step(network, optimizer, *(part.to(device) for part in batch))
        durations.append(clock() - start)
    return network, durations


def step(network, optimizer, images, targets):
    """Make one step of the optimizer on a whole batch."""
    optimizer.zero_grad()
    z_phy, z_rest, logits = network(images)
    loss = F.binary_cross_entropy_with_logits(logits, images)
    loss = loss + F.mse_loss(z_phy, targets) + 1e-4 * z_rest.abs().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def predict(network, X, y, low, span, device="cpu"):
    """Return the parameters of flat stamps, in batches of 256."""
    mean, std, outputs = y.mean(0), y.std(0), []
    for start in range(0, len(X), 256):
        rows = (X[start : start + 256] - low) / span
        images = torch.from_numpy(rows).reshape(-1, 1, SIDE, SIDE).to(device)
        outputs.append(network.encode(images)[0].cpu().numpy())
    return np.concatenate(outputs) * std + mean


@torch.no_grad()
def decode(network, Z, low, span):
    """Return flat stamps of latents, in batches of 256."""
    outputs = []
    for start in range(0, len(Z), 256):
        latents = torch.from_numpy(Z[start : start + 256])
        outputs.append(torch.sigmoid(network.decode(latents)).flatten(1).numpy())
    return np.concatenate(outputs) * span + low


def draw_stamp(flux, half_light_radius, sersic_index, e1, e2, x0, y0):
    """Draw a noiseless galaxy as GalSim's tutorial does."""
    galaxy = galsim.Sersic(
        n=sersic_index, half_light_radius=half_light_radius, flux=flux
    ).shear(e1=e1, e2=e2)
    seen = galsim.Convolve(galaxy, galsim.Gaussian(fwhm=PSF_FWHM))
    image = galsim.ImageF(SIDE, SIDE, scale=PIXEL_SCALE)
    # GalSim calls the centre of the first pixel 1, sklcae its outer corner 0.
    return seen.drawImage(image, center=galsim.PositionD(x0 + 0.5, y0 + 0.5))


# More accurate than GalSim's defaults.
ACCURATE = galsim.GSParams(
    folding_threshold=1e-3, maxk_threshold=1e-4, maximum_fft_size=16384
)


def model_psf(kind, row):
    """Return the PSF with the settings of make_galaxies."""
    fwhm, angle = row["psf_fwhm"], row["psf_position_angle"] * galsim.degrees
    if kind == "gaussian":
        psf = galsim.Gaussian(fwhm=fwhm, gsparams=ACCURATE)
    else:
        psf = galsim.Moffat(beta=row["moffat_beta"], fwhm=fwhm, gsparams=ACCURATE)
    return psf.shear(e=row["psf_ellipticity"], beta=angle)


def image_psf(image):
    """Return the effective PSF of an image, its centre at (H // 2, W // 2)."""
    return galsim.InterpolatedImage(
        galsim.ImageD(image.astype(float), scale=PIXEL_SCALE),
        x_interpolant=galsim.Lanczos(31),
        use_true_center=False,
        flux=1.0,
        gsparams=ACCURATE,
    )


def draw_accurately(
    flux, half_light_radius, sersic_index, e1, e2, x0, y0, psf, with_pixel
):
    """Draw a noiseless galaxy through a PSF, with the pixel or with it in the PSF."""
    galaxy = galsim.Sersic(
        n=sersic_index,
        half_light_radius=half_light_radius,
        flux=flux,
        gsparams=ACCURATE,
    ).shear(e1=e1, e2=e2)
    image = galsim.ImageD(SIDE, SIDE, scale=PIXEL_SCALE)
    center = galsim.PositionD(x0 + 0.5, y0 + 0.5)
    method = "auto" if with_pixel else "no_pixel"
    seen = galsim.Convolve(galaxy, psf, gsparams=ACCURATE)
    return seen.drawImage(image, center=center, method=method).array


def generate(n_samples, seed):
    """Simulate galaxies of the paper's Table 1, the Sersic index continuous."""
    rng = np.random.default_rng(seed)
    noise = galsim.CCDNoise(
        galsim.BaseDeviate(seed), sky_level=SKY_LEVEL, gain=GAIN, read_noise=READ_NOISE
    )
    X = np.empty((n_samples, SIDE * SIDE), np.float32)
    for row in X:
        ellipticity, angle = rng.uniform(0, 0.6), rng.uniform(0, np.pi)
        image = draw_stamp(
            rng.uniform(500, 50_000),
            rng.uniform(0.3, 5.0),
            rng.uniform(0.5, 4.0),
            ellipticity * np.cos(2 * angle),
            ellipticity * np.sin(2 * angle),
            *rng.uniform(0, SIDE, 2),
        )
        image.addNoise(noise)
        row[:] = image.array.ravel()
    return X
