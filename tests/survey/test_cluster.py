"""Catalogues on a cluster of processes. Some of these are killed.

The runs end with every row once and bitwise as predict gives it, or say what failed.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from distributed import Client, LocalCluster, WorkerPlugin

from sklcae import ConditionalAutoencoderRegressor
from sklcae.exceptions import CatalogError
from sklcae.survey import _measurement as measurement
from sklcae.survey import predict_catalog
from tests.effort import SHARE
from tests.survey.sources import NAMES, make_stamps, save_model, write_zarr

N = 60
# A stamp with this pixel kills the process that measures it.
DEADLY = 1234.5


class Hazards(WorkerPlugin):
    """Measure slowly, and die at the stamps that kill."""

    name = "hazards"

    def setup(self, worker):
        prepare_process()


def prepare_process():
    measure = measurement.measure_stamps

    def measure_dangerously(model, X, *options):
        time.sleep(0.02)
        if (X == DEADLY).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return measure(model, X, *options)

    measurement.measure_stamps = measure_dangerously


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Hazards())
        yield client


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.sklcae"
    save_model(path)
    return path


@pytest.fixture
def source(tmp_path):
    return write_zarr(tmp_path / "stamps.zarr", make_stamps(N, seed=1)[0])


def check_rows(run, model_path, images, bad=()):
    """Check that all rows are there once, and are those of predict."""
    assert run.failed == []
    assert run.verify() == len(images)
    table = run.read()
    np.testing.assert_array_equal(table["object_id"], np.arange(len(images)))
    model = ConditionalAutoencoderRegressor.load(model_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = model.predict(images)
    y[list(bad)] = np.nan
    for column, name in enumerate(NAMES):
        np.testing.assert_array_equal(table[name], y[:, column])
    assert np.flatnonzero(table["sklcae_flag_bad_stamp"]).tolist() == sorted(bad)
    assert list(run.bad_stamps()) == sorted(bad)
    assert not list(run.folder.glob(".*"))


class Killer(threading.Thread):
    """Kill workers, one after another, while a catalogue is made."""

    def __init__(self, client, folder, n_kills, seed):
        super().__init__(daemon=True)
        self.client, self.folder, self.n_kills = client, folder, n_kills
        self.random, self.killed = random.Random(seed), 0
        self.ended = threading.Event()

    def run(self):
        while self.killed < self.n_kills and not self.ended.wait(0.05):
            if not list(self.folder.glob("part-*")):
                continue
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
            names = sorted(workers)
            if len(names) == 2:
                pids = self.client.run(os.getpid, on_error="ignore")
                os.kill(self.random.choice(sorted(pids.values())), signal.SIGKILL)
                self.killed += 1
                time.sleep(self.random.uniform(0.5, 2))


def run_with_kills(client, model_path, tmp_path, n_kills, n_stamps, seed=0):
    images, _ = make_stamps(n_stamps, seed=1)
    source = write_zarr(tmp_path / "long.zarr", images)
    killer = Killer(client, tmp_path / "out", n_kills, seed)
    killer.start()
    run = predict_catalog(
        model_path, source, tmp_path / "out", rows_per_part=1, client=client
    )
    killer.ended.set()
    killer.join()
    check_rows(run, model_path, images)
    return killer.killed


def test_rows_of_a_cluster_are_those_of_predict(client, model_path, source, tmp_path):
    run = predict_catalog(
        model_path, source, tmp_path / "out", rows_per_part=7, client=client
    )
    check_rows(run, model_path, make_stamps(N, seed=1)[0])
    assert set(client.run(threads_of_zarr).values()) == {1}


def threads_of_zarr():
    import zarr

    return zarr.config.get("threading.max_workers")


def test_workers_that_are_killed(client, model_path, tmp_path):
    assert run_with_kills(client, model_path, tmp_path, 2, 150) == 2


@pytest.mark.slow
def test_many_workers_that_are_killed(client, model_path, tmp_path):
    n_kills = max(3, round(20 * SHARE))
    killed = run_with_kills(client, model_path, tmp_path, n_kills, 120 * n_kills, 1)
    assert killed == n_kills


def test_a_stamp_that_kills_its_worker(client, model_path, tmp_path):
    images, _ = make_stamps(N, seed=1)
    images[23, 0, 0] = DEADLY
    source = write_zarr(tmp_path / "stamps.zarr", images)
    run = predict_catalog(
        model_path, source, tmp_path / "out", rows_per_part=12, client=client
    )
    check_rows(run, model_path, images, bad=[23])
    assert "process died" in run.bad_stamps()[23]


def test_parts_that_fail_are_listed(client, model_path, source, tmp_path):
    images, _ = make_stamps(N, seed=1)
    images[23, 0, 0] = np.inf
    source = write_zarr(tmp_path / "stamps.zarr", images)
    run = predict_catalog(
        model_path,
        source,
        tmp_path / "out",
        rows_per_part=10,
        client=client,
        on_bad_stamp="raise",
    )
    (failure,) = run.failed
    assert (failure["part"], failure["rows"]) == (2, [20, 30])
    assert "infinity" in failure["error"]
    assert len(list((tmp_path / "out").glob("part-*"))) == 5


def test_changed_sources_stop_a_cluster(client, model_path, source, tmp_path):
    run = predict_catalog(
        model_path, source, tmp_path / "out", rows_per_part=10, dry_run=True
    )
    write_zarr(source, make_stamps(N, seed=2)[0])
    with pytest.raises(CatalogError, match="stamps must not change"):
        run.run(client)


SCRIPT = """
import sys
from tests.survey.test_cluster import prepare_process
from distributed import Client
from sklcae.survey import predict_catalog

if __name__ == "__main__":
    prepare_process()
    client = Client(sys.argv[4]) if len(sys.argv) > 4 else None
    # Its imports and the model take seconds.
    run = predict_catalog(*sys.argv[1:4], rows_per_part=4, dry_run=True)
    print("begins", flush=True)
    print("ends", run.run(client).failed, flush=True)
"""


def kill_and_run_again(model_path, source, out, wait, address=()):
    """Start the script, kill it after a while, and return whether it had ended."""
    command = [sys.executable, "-c", SCRIPT, *map(str, (model_path, source, out))]
    with subprocess.Popen(
        [*command, *address], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begins\n"
        time.sleep(wait)
        process.kill()
        return "ends" in process.stdout.read()


def test_a_process_that_is_killed(model_path, source, tmp_path):
    out, wait = tmp_path / "out", 1.0
    while not kill_and_run_again(model_path, source, out, wait):
        wait *= 3
    run = predict_catalog(model_path, source, out)
    check_rows(run, model_path, make_stamps(N, seed=1)[0])


@pytest.mark.slow
def test_clients_that_are_killed(client, model_path, tmp_path):
    images, _ = make_stamps(600, seed=1)
    source = write_zarr(tmp_path / "stamps.zarr", images)
    chance, out = random.Random(0), tmp_path / "out"
    address = client.cluster.scheduler_address
    for _ in range(max(3, round(10 * SHARE))):
        kill_and_run_again(model_path, source, out, chance.uniform(0, 1), [address])
    n_done = len(list(out.glob("part-*")))
    run = predict_catalog(model_path, source, out, client=client)
    check_rows(run, model_path, images)
    print(n_done, "parts of", run.plan.n_parts, "were done by the killed clients")
