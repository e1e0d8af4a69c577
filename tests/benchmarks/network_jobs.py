"""Measurements of the estimator and of plain PyTorch, one process each."""

import statistics
import time
from contextlib import closing
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from flops import forward_flops, training_flops
from measuring import Memory, seconds

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies


def machine(folder):
    """Describe PyTorch's threads, instruction set and GPU."""
    has_gpu = torch.cuda.is_available()
    return {
        "torch_threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
    }


def prepare(folder, stamps, epochs):
    """Store the stamps of all jobs, and a model for the predictions."""
    X, y = make_galaxies(stamps, random_state=1, n_jobs=2)
    np.save(Path(folder, "X.npy"), X)
    np.save(Path(folder, "y.npy"), y)
    model = ConditionalAutoencoderRegressor(max_epochs=epochs, random_state=0)
    model.fit(X, y).save(Path(folder, "model"))
    return {}


def write_memory_map(folder, n):
    """Store flat float32 stamps, repeating the same stamps."""
    X, _ = load(folder)
    with open(Path(folder, "X.dat"), "wb") as file:
        for start in range(0, n, len(X)):
            X[: n - start].tofile(file)
    return {}


def load(folder, n=None, mapped=False):
    """Return n stamps, repeating the same stamps, and their targets."""
    if mapped:
        X = np.memmap(Path(folder, "X.dat"), np.float32, "r").reshape(-1, 64 * 64)
        return X[:n], None
    X, y = (np.load(Path(folder, name)) for name in ("X.npy", "y.npy"))
    rows = np.arange(len(X) if n is None else n) % len(X)
    return X[rows], y[rows]


def make_model(epochs, **parameters):
    """Return the estimator with the paper's defaults."""
    return ConditionalAutoencoderRegressor(
        max_epochs=epochs, random_state=0, **parameters
    )


def fit(folder, n, epochs, device="cpu"):
    """Train with `fit`; the first of several epochs is not counted."""
    X, y = load(folder, n)
    import_all(make_model(1, device=device).fit, X, y)
    model = make_model(epochs, device=device)
    with Memory() as memory:
        model.fit(X, y)
    return training_result(n, model.history_["duration"], memory)


def plain_fit(folder, n, epochs, device="cpu"):
    """Train with the plain loop."""
    import plain

    X, y = load(folder, n)
    clock = synchronized_clock(device)
    import_all(lambda X, y: plain.train(X, y, 1, clock, device), X, y)
    with Memory() as memory:
        _, durations = plain.train(X, y, epochs, clock, device)
    return training_result(n, durations, memory)


def import_all(train, X, y):
    """Train on a few stamps of 8 x 8 pixels: PyTorch imports some parts late."""
    train(X[:8, :64], y[:8])


def training_result(n, durations, memory):
    """Return stamps per second, without the first of several epochs.

    Parameters
    ----------
    n : int
        Number of stamps.
    durations : list of float
        Seconds of each epoch.
    memory : Memory
        Memory of the training.
    """
    rate = n / statistics.median(durations[1:] or durations)
    return {"rate": rate, "gflops": rate * training_flops() / 1e9, **memory.peaks()}


def synchronized_clock(device):
    """Return a clock that waits for the device."""
    if torch.device(device).type == "cpu":
        return time.perf_counter

    def clock():
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def overhead(folder, n, epochs):
    """Compare each epoch of `fit` with one of the same steps without skorch."""
    from skorch.callbacks import Callback

    X, y = load(folder, n)
    durations = []

    class AfterEachEpoch(Callback):
        def on_epoch_end(self, net, **kwargs):
            durations.append(next(bare))

    # Threads of a generator that is open when Python ends are waited for without end.
    with closing(bare_epochs(X, y)) as bare:
        model = make_model(epochs, callbacks=[AfterEachEpoch()]).fit(X, y)
    pairs = list(zip(model.history_["duration"], durations, strict=True))[1:]
    return {"shares": [ours / other - 1 for ours, other in pairs], "epochs": pairs}


def bare_epochs(X, y):
    """Yield the seconds of epochs of network, micro-batches and Adam alone."""
    from sklcae._torch.networks.base import Architecture
    from sklcae._torch.training import MICRO_BATCH_PIXELS, build_net
    from sklcae._torch.workers import single_threads

    model = make_model(1).fit(X[:8], y[:8])
    net = build_net("paper", Architecture((1, 64, 64), y.shape[1], 64), seed=0)
    network = net.module_
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    images = model.image_scaler_.transform(X.reshape(-1, 1, 64, 64))
    targets = model.target_scaler_.transform(y).astype(np.float32)
    data = torch.from_numpy(images), torch.from_numpy(targets)
    size = MICRO_BATCH_PIXELS // (64 * 64)
    with single_threads("cpu") as executor:
        while True:
            start = time.perf_counter()
            for rows in torch.randperm(len(X)).split(64):
                batch = [part[rows] for part in data]
                bare_step(network, optimizer, executor, batch, size)
            yield time.perf_counter() - start


def bare_step(network, optimizer, executor, batch, size):
    """Make one step of the net, without the surrounding code."""
    from sklcae._torch.batches import Batch
    from sklcae._torch.losses import LossWeights, drawn_by, loss_terms
    from sklcae._torch.training import Output

    n = len(batch[0])
    images = batch[0].contiguous(memory_format=torch.channels_last)
    parameters = list(network.parameters())

    def gradients(rows):
        part = Batch(images[rows], batch[1][rows])
        encoding = network.encode(part)
        drawn = drawn_by(network, network.decode(encoding.latents))
        output = Output(encoding, drawn)
        terms = loss_terms(output, part, "binary_cross_entropy", "squared_error")
        loss = terms.total(LossWeights(1.0, 1e-4)) * (len(part.images) / n)
        return torch.autograd.grad(loss, parameters), loss.item()

    parts = executor(gradients, [slice(i, i + size) for i in range(0, n, size)])
    for parameter, grads in zip(
        parameters, zip(*(grads for grads, _ in parts), strict=True), strict=True
    ):
        total = reduce(torch.Tensor.add_, grads)
        parameter.grad = torch.empty_like(parameter).copy_(total)
    optimizer.step()


def matrix_product(folder, device="cpu", size=2048, repeats=12):
    """Return the best rate of a float32 matrix product on all threads."""
    a, b = torch.rand(2, size, size, device=device)
    clock, best = synchronized_clock(device), float("inf")
    for _ in range(repeats):
        start = clock()
        torch.mm(a, b)
        best = min(best, clock() - start)
    return {"gflops": 2 * size**3 / best / 1e9}


def predict(folder, n, mapped=False, repeats=1, device="cpu"):
    """Predict with the stored model."""
    model = load_model(Path(folder, "model"), device)
    X, _ = load(folder, n, mapped)
    return prediction_result(model.predict, X, repeats)


def load_model(path, device="cpu"):
    """Return a saved model on a device."""
    import pickle

    model = ConditionalAutoencoderRegressor.load(path).set_params(device=device)
    # A model moves when it is unpickled.
    return pickle.loads(pickle.dumps(model))


def plain_predict(folder, n, mapped=False, repeats=1, device="cpu"):
    """Predict with the plain loop and random weights."""
    import plain

    X, _ = load(folder, n, mapped)
    real, y = load(folder)
    network = plain.PlainNetwork(1, 64, y.shape[1], 64).to(device)
    _, low, span = plain.scale(real)
    return prediction_result(
        lambda X: plain.predict(network, X, y, low, span, device), X, repeats
    )


def prediction_result(function, X, repeats):
    """Return the stamps per second and per core-second of a prediction, and memory."""
    cpu = time.process_time()
    with Memory() as memory:
        duration = seconds(lambda: function(X), repeats)
    core_seconds = (time.process_time() - cpu) / repeats
    rate = len(X) / duration
    return {
        "rate": rate,
        "per_core_second": len(X) / core_seconds,
        "gflops": rate * forward_flops()[0] / 1e9,
        **memory.peaks(),
    }


def inverse_transform(folder, n, repeats):
    """Decode latents with the stored model."""
    model = ConditionalAutoencoderRegressor.load(Path(folder, "model"))
    return decoding_result(model.inverse_transform, n, repeats)


def plain_decode(folder, n, repeats):
    """Decode latents with the plain decoder and random weights."""
    import plain

    network = plain.PlainNetwork(1, 64, 2, 64)
    return decoding_result(lambda Z: plain.decode(network, Z, 0.0, 1.0), n, repeats)


def decoding_result(function, n, repeats):
    """Return the stamps per second of a decoder, and its memory."""
    Z = np.random.default_rng(0).random((n, 64), np.float32)
    with Memory() as memory:
        duration = seconds(lambda: function(Z), repeats)
    return {"rate": n / duration, **memory.peaks()}


def grid(folder, n, epochs, n_jobs, side):
    """Search four candidates, on the central part of the stamps."""
    from sklearn.model_selection import GridSearchCV

    X, y = load(folder, n)
    middle = slice(32 - side // 2, 32 + side // 2)
    X = X.reshape(-1, 64, 64)[:, middle, middle].reshape(n, -1)
    import_all(make_model(1).fit, X, y)
    search = GridSearchCV(
        make_model(epochs),
        {"alpha": [0.1, 1.0], "beta": [1e-4, 1e-3]},
        cv=2,
        scoring={"r2": "r2", "threads": count_threads},
        refit=False,
        n_jobs=n_jobs,
    )
    with Memory() as memory:
        duration = seconds(lambda: search.fit(X, y))
    threads = max(search.cv_results_["mean_test_threads"])
    return {"rate": 8 / duration, "threads_per_job": threads, **memory.peaks()}


def count_threads(model, X, y):
    """Return the number of threads that PyTorch uses when a candidate is fitted."""
    return torch.get_num_threads()


JOBS = (
    machine,
    prepare,
    write_memory_map,
    fit,
    plain_fit,
    overhead,
    matrix_product,
    predict,
    plain_predict,
    inverse_transform,
    plain_decode,
    grid,
)
