"""Compare three methods for error bars on the same galaxies and the same encoder.

python tests/benchmarks/uncertainties.py [--n-train 2000] [--n-test 5000] [--epochs 20]
    [--members 5] [--passes 50] [--seed 0] [--quick] [--json FILE]

- a Gaussian likelihood with a predicted variance (the method of sklcae), for the image
  as it is and for the mean over its flips and rotations (test_time_augmentation);
- a deep ensemble of such networks (Lakshminarayanan, Pritzel and Blundell 2017), with
  the variance of a mixture, as in this reference, and with the variance of the mean;
- Monte Carlo dropout (Gal and Ghahramani 2016) of the features, for several rates, with
  the variance of the training set's residuals added.

Only the encoder of the "strided" network is trained. For each method the table shows
the mean R2, the negative logarithm of the likelihood of the fresh galaxies, the largest
deviation of the coverage of 68 and 95 % intervals, and the cost of a prediction in
passes through the encoder. The deviation is the largest one over all targets and over
three kinds of samples: all galaxies, five bins of signal-to-noise ratio, and galaxies
cut by the edge.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from records import Record, add_option
from scipy.stats import norm
from sklearn.metrics import r2_score

from sklcae._scaling import ImageScaler
from sklcae._symmetry import Symmetry, variance_of_mean
from sklcae._targets import fit_target_scaler
from sklcae._torch import PHYSICAL_LOSSES, Architecture, Batch
from sklcae._torch.augmentation import DihedralAugmentation, dihedral_transform
from sklcae.datasets import make_galaxies, signal_to_noise
from sklcae.networks import Encoding, StridedEncoder

TARGETS = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
RATES = (0.05, 0.1, 0.2)
BATCH = 32
PIXEL_SCALE = 0.2


class Galaxies:
    """The scaled training set, and fresh galaxies with the bins to evaluate."""

    def __init__(self, n_train, n_test):
        settings = {"targets": TARGETS, "return_X_y": False, "n_jobs": -1}
        train = make_galaxies(n_train, random_state=0, **settings)
        test = make_galaxies(n_test, random_state=1, **settings)
        clean = make_galaxies(n_test, random_state=1, noise=False, **settings)
        scaler = ImageScaler("asinh").fit(train.images[:, None])
        self.symmetry = Symmetry.of_targets(TARGETS, len(TARGETS), (64, 64), None)
        self.target_scaler = fit_target_scaler(train.target, None, self.symmetry)
        self.train = self._stamps(train, scaler)
        self.test = self._stamps(test, scaler)
        self.parts = parts_of(test, signal_to_noise(clean.images))

    def _stamps(self, galaxies, scaler):
        targets = self.target_scaler.transform(galaxies.target).astype(np.float32)
        images = torch.from_numpy(scaler.transform(galaxies.images[:, None]))
        return Batch(images, torch.from_numpy(targets))


def parts_of(galaxies, ratios):
    """Return rows of all galaxies, of five bins of the ratio, and of cut galaxies."""
    bins = np.digitize(ratios, np.quantile(ratios, [0.2, 0.4, 0.6, 0.8]))
    frame = galaxies.frame
    to_edge = np.minimum.reduce([frame.x0, 64 - frame.x0, frame.y0, 64 - frame.y0])
    radius = frame.half_light_radius.to_numpy() / PIXEL_SCALE
    return [np.full(len(bins), True), *(bins == b for b in range(5)), to_edge < radius]


def train(galaxies, options, seed, rate=None):
    """Train an encoder; with a rate, use the squared error and dropout."""
    torch.manual_seed(seed)
    sizes = Architecture((1, 64, 64), len(TARGETS), 64, predicts_variance=rate is None)
    network = StridedEncoder(sizes).to(memory_format=torch.channels_last)
    maps = galaxies.symmetry.scaled(galaxies.target_scaler)
    augment = DihedralAugmentation(*maps, torch.Generator().manual_seed(seed))
    images, targets = galaxies.train[:2]
    n_steps = options.epochs * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=2e-3, weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=n_steps)
    for _ in range(options.epochs):
        for rows in torch.randperm(len(images)).split(BATCH):
            stamps = augment(Batch(images[rows], targets[rows]))
            optimizer.zero_grad()
            loss_of(network, stamps, rate).backward()
            optimizer.step()
            schedule.step()
    return network


def loss_of(network, stamps, rate):
    if rate is None:
        loss = PHYSICAL_LOSSES["gaussian_likelihood"]
        return loss(network(stamps), stamps.targets).mean()
    features = F.dropout(network.features(stamps), rate)
    return F.mse_loss(network._latents(features)[0], stamps.targets)


@torch.inference_mode()
def likelihood(network, images):
    """Return the mean and the variance that the network predicts."""
    parts = [network(Batch(part)) for part in images.split(128)]
    encoding = Encoding(*(torch.cat(part) for part in zip(*parts, strict=True)))
    mean, log_variance = encoding.z_phy.numpy(), encoding.log_variance.numpy()
    return mean.astype(float), np.exp(log_variance.astype(float))


def turned(network, galaxies):
    """Return the mean over all flips and rotations, and its variance."""
    values, variances = [], []
    scaler = galaxies.target_scaler
    for element in range(len(galaxies.symmetry.matrices)):
        images = dihedral_transform(galaxies.test.images, element)
        images = images.contiguous(memory_format=torch.channels_last)
        mean, variance = likelihood(network, images)
        values.append(scaler.inverse_transform(mean))
        variances.append(variance * scaler.scale_**2)
    mean, variance = galaxies.symmetry.mean_over_turns(values, variances)
    return scaler.transform(mean), variance / scaler.scale_**2


def ensembles(predictions):
    """Return mean and variance of an equal mixture, and of the mean."""
    means, variances = (np.stack(part) for part in zip(*predictions, strict=True))
    mean, variance = means.mean(0), variances.mean(0)
    spread = means.var(0, ddof=min(1, len(means) - 1))
    return {
        "mixture": (mean, variance + means.var(0)),
        "mean": (mean, variance_of_mean(variance, spread, len(means))),
    }


@torch.inference_mode()
def dropout(network, galaxies, rate, n_passes):
    """Return mean and variance over passes, with the residuals' variance added."""
    torch.manual_seed(0)

    def passes(images):
        parts = [network.features(Batch(part)) for part in images.split(128)]
        features = torch.cat(parts)
        return np.stack(
            [
                network._latents(F.dropout(features, rate))[0].numpy().astype(float)
                for _ in range(n_passes)
            ]
        )

    seen = passes(galaxies.train.images).mean(0)
    residuals = ((seen - galaxies.train.targets.numpy()) ** 2).mean(0)
    drawn = passes(galaxies.test.images)
    return drawn.mean(0), drawn.var(0) + residuals


def score(galaxies, mean, variance):
    """Return R2, negative log likelihood and the largest deviation of coverage."""
    targets = galaxies.test.targets.numpy()
    pulls = np.abs(mean - targets) / np.sqrt(variance)
    likelihoods = norm.logpdf(targets, mean, np.sqrt(variance))
    departures = {
        level: max(
            np.abs((pulls[rows] < norm.ppf(0.5 + level / 2)).mean(0) - level).max()
            for rows in galaxies.parts
        )
        for level in (0.68, 0.95)
    }
    return {
        "R2": r2_score(targets, mean),
        "-log likelihood": -likelihoods.mean(),
        **{f"worst of {level:.0%}": value for level, value in departures.items()},
    }


def compare(options):
    galaxies = Galaxies(options.n_train, options.n_test)
    table, images = {}, galaxies.test.images
    start = time.perf_counter()
    members = [
        train(galaxies, options, options.seed + member)
        for member in range(options.members)
    ]
    print(f"{options.members} trainings took {time.perf_counter() - start:.0f} s")
    predictions = [likelihood(network, images) for network in members]
    table["likelihood"] = score(galaxies, *predictions[0]) | {"passes": 1}
    found = turned(members[0], galaxies)
    table["likelihood, turned"] = score(galaxies, *found) | {"passes": 8}
    for name, found in ensembles(predictions).items():
        row = score(galaxies, *found) | {"passes": len(members)}
        table[f"ensemble of {len(members)}, {name}"] = row
    for rate in options.rates:
        network = train(galaxies, options, options.seed, rate)
        found = dropout(network, galaxies, rate, options.passes)
        table[f"dropout {rate}"] = score(galaxies, *found) | {"passes": options.passes}
    return pd.DataFrame(table).T


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compare methods for error bars.")
    parser.add_argument("--n-train", type=int, default=2000)
    parser.add_argument("--n-test", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--passes", type=int, default=50)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a small run")
    add_option(parser)
    options = parser.parse_args()
    if options.quick:
        small = {"n_train": 64, "n_test": 100, "epochs": 1, "members": 2, "passes": 3}
        vars(options).update(small)
    return options


if __name__ == "__main__":
    arguments, record = parse_arguments(), Record()
    scores = compare(arguments)
    print(scores.round(3).to_string())
    record.add("methods", scores.rename_axis("method").reset_index())
    record.write(arguments.json)
