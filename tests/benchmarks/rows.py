"""The rows of the table, each with its jobs and its goal."""

import operator
import statistics
from dataclasses import dataclass

from lab import median, median_ratio

COMPARISONS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}
# A stamp of 64 x 64 pixels, float32.
STAMP_MIB = 2**-6


@dataclass
class Result:
    """One line of the table.

    `ours` and `reference` are in `unit`. `value` is compared with `to_reach`; it is a
    ratio unless the note says otherwise. Memory is in MiB, in addition to the memory of
    the process after its imports and with its input.
    """

    work: str
    unit: str
    ours: float
    reference: float | None
    value: float
    to_reach: str | None = None
    memory: float | None = None
    reference_memory: float | None = None
    note: str = ""

    @property
    def reached(self):
        """Whether the value reaches its goal; None if there is no goal."""
        if self.to_reach is None:
            return None
        comparison, limit = self.to_reach.split()
        return COMPARISONS[comparison](self.value, float(limit))


def compared(work, unit, ours, reference, to_reach=None, key="rate", note=""):
    """Return the line that compares the rounds of two jobs."""
    return Result(
        work,
        unit,
        median(ours, key),
        median(reference, key),
        median_ratio(ours, reference, key),
        to_reach,
        median(ours, "memory"),
        median(reference, "memory"),
        note,
    )


def training(lab):
    """Training step of the paper's network, and the overhead."""
    options = {"n": lab.sizes["stamps"], "epochs": lab.sizes["epochs"]}
    repeats = lab.sizes["repeats"]
    ours, reference = lab.take_turns(repeats, ("fit", options), ("plain_fit", options))
    beside = lab.run("overhead", n=lab.sizes["stamps"], epochs=lab.sizes["pairs"])
    with_it, without = (sum(column) for column in zip(*beside["epochs"], strict=True))
    n_epochs = len(beside["epochs"])
    return [
        compared("fit, batches of 64", "stamps/s", ours, reference, ">= 2.0"),
        memory_line(ours, reference),
        Result(
            "fit, overhead of skorch and sklcae in a step",
            "s/epoch",
            with_it / n_epochs,
            without / n_epochs,
            statistics.median(beside["shares"]),
            "< 0.05",
            note="reference: the same steps without skorch; value: median share added",
        ),
    ]


def memory_line(ours, reference):
    """Return the line that compares the peak memory of two trainings."""
    whole = median_ratio(ours, reference, "process_memory")
    return Result(
        "fit, peak memory beyond imports and input",
        "MiB",
        median(ours, "memory"),
        median(reference, "memory"),
        median_ratio(ours, reference, "memory"),
        "<= 0.65",
        note=f"of whole processes {whole:.2f}",
    )


def rates(lab):
    """Share of the float32 rate of the machine's matrix product."""
    products, fits, predictions = lab.take_turns(
        lab.sizes["repeats"],
        ("matrix_product", {}),
        ("fit", {"n": lab.sizes["stamps"], "epochs": lab.sizes["epochs"]}),
        ("predict", {"n": lab.sizes["encode"], "repeats": 3}),
    )
    lines = []
    for work, results, limit in (
        ("fit, share of the speed of a matrix product", fits, ">= 0.40"),
        ("predict, share of the speed of a matrix product", predictions, ">= 0.55"),
    ):
        share = median_ratio(results, products, "gflops")
        pair = median(results, "gflops"), median(products, "gflops")
        memory = median(results, "memory")
        note = f"{median(results, 'rate'):.0f} stamps/s"
        lines.append(Result(work, "GFLOP/s", *pair, share, limit, memory, note=note))
    return lines


def prediction(lab):
    """Prediction for many stamps from a memory map."""
    n = lab.sizes["mapped"]
    lab.run("write_memory_map", n=n)
    ours, reference = lab.take_turns(
        1,
        ("predict", {"n": n, "mapped": True}),
        ("plain_predict", {"n": lab.sizes["plain_mapped"], "mapped": True}),
    )
    # Pages of the memory map count as resident, not as anonymous.
    for result in (*ours, *reference):
        result["memory"] = result["anonymous_memory"]
    beyond = median(ours, "memory"), median(reference, "memory")
    name = f"predict, {n:,} stamps from a memory map"
    note = (
        "anonymous memory, output included; plain loop with "
        f"{lab.sizes['plain_mapped']} stamps"
    )
    return [
        compared(name, "stamps/s", ours, reference, ">= 1.5", note=note),
        Result(f"{name}, memory", "MiB", *beyond, beyond[0], "< 300", note=note),
    ]


def profiles(lab):
    """Prediction compared with a profile fit, on one core each."""
    n = lab.sizes["profiles"]
    model = {"model": str(lab.model)} if lab.model else {}
    ours = lab.run("predict_profiles", one_thread=True, n=n, **model)
    reference = lab.run("fit_profiles", one_thread=True, n=n)
    trained = (
        "a saved model" if lab.model else f"{lab.sizes['model_epochs']} epochs only"
    )
    speed = Result(
        "predict (reference: a profile fit with GalSim), one core",
        "galaxies/core s",
        ours["rate"],
        reference["rate"],
        ours["rate"] / reference["rate"],
        ">= 500",
        note=f"{n} galaxies; the fit draws {reference['images_drawn']:.0f} images each",
    )
    lines = [speed]
    for name in ours["accuracy"]:
        for measure in ("r2", "median_relative_error"):
            values = [job["accuracy"][name][measure] for job in (ours, reference)]
            lines.append(
                Result(f"{name}, {measure}", "", *values, values[0], note=trained)
            )
    return lines


def galaxies(lab):
    """Simulation compared with a plain GalSim loop, and the images of both."""
    n, n_plain = lab.sizes["galaxies"], lab.sizes["plain_galaxies"]
    one, two, reference = lab.take_turns(
        lab.sizes["galaxy_repeats"],
        ("generate", {"n": n, "n_jobs": 1}),
        ("generate", {"n": n, "n_jobs": 2}),
        ("plain_generate", {"n": n_plain}),
    )
    note = f"{n} galaxies, {n_plain} with plain GalSim"
    images = lab.run("compare_images", n=lab.sizes["compared"])
    worst = max(images["rms_of_each"])
    return [
        compared("make_galaxies", "stamps/s", one, reference, ">= 3", note=note),
        compared(
            "make_galaxies, n_jobs=2",
            "stamps/s",
            two,
            reference,
            ">= 5.5",
            note=f"{note}; memory without that of the workers",
        ),
        Result(
            "make_galaxies, rms difference from GalSim",
            "noise/pixel",
            images["rms"],
            None,
            images["rms"],
            "< 0.01",
            note=f"of {lab.sizes['compared']} galaxies; the worst one {worst:.4f}",
        ),
        *galaxies_of_telescopes(lab),
    ]


def galaxies_of_telescopes(lab):
    """A PSF and noise of its own for each stamp, compared with the same for all."""
    n = lab.sizes["galaxies"]
    lines = []
    for psf in ("Gaussian", "Moffat"):
        varied, same = lab.take_turns(
            lab.sizes["galaxy_repeats"],
            ("generate", {"n": n, "psf": psf.lower(), "varied": True}),
            ("generate", {"n": n, "psf": psf.lower()}),
        )
        name = f"make_galaxies, a {psf} PSF for each stamp"
        work = f"{name} (reference: one for all)"
        lines.append(compared(work, "stamps/s", varied, same, ">= 0.67"))
        for source, from_images in (("", False), (", from its images", True)):
            compared_stamps = lab.sizes["compared_optics"]
            found = lab.run(
                "compare_optics",
                n=compared_stamps,
                psf=psf.lower(),
                from_images=from_images,
            )
            lines.append(
                Result(
                    f"{name}{source}, rms difference from GalSim",
                    "noise/pixel",
                    found["rms"],
                    None,
                    found["rms"],
                    "< 0.001",
                    note=f"of {compared_stamps} galaxies; worst {found['worst']:.4f}",
                )
            )
    return lines


def decoding(lab):
    """Decoding of latents."""
    options = {"n": lab.sizes["latents"], "repeats": 1}
    ours, reference = lab.take_turns(
        lab.sizes["repeats"], ("inverse_transform", options), ("plain_decode", options)
    )
    return [compared("inverse_transform", "stamps/s", ours, reference, ">= 1.5")]


def grid(lab):
    """Grid search over four candidates, for stamps of two sizes."""
    return [line for side in (32, 64) for line in grid_lines(lab, side)]


def grid_lines(lab, side):
    """Return the lines for stamps of `side` x `side` pixels.

    A batch of 64 stamps of 32 x 32 pixels keeps one core busy, because four of them are
    computed together like one stamp of 64 x 64. A batch of larger stamps keeps all
    cores busy.
    """
    n = lab.sizes["grid_stamps"] * 32**2 // side**2
    options = {"n": n, "epochs": lab.sizes["grid_epochs"], "side": side}
    one, single, two = lab.take_turns(
        lab.sizes["grid_repeats"],
        ("grid", {**options, "n_jobs": 1}),
        ("grid", {**options, "n_jobs": 1, "one_thread": True}),
        ("grid", {**options, "n_jobs": 2}),
    )
    threads = median(two, "threads_per_job")
    note = f"{threads:.0f} thread(s) a job; memory without that of the workers"
    name = f"GridSearchCV, {side} x {side} pixels, n_jobs=2"
    to_reach = ">= 1.7"
    return [
        compared(f"{name} (reference: 1)", "fits/s", two, one, to_reach, note=note),
        compared(
            f"{name} (reference: 1, one thread)", "fits/s", two, single, note=note
        ),
    ]


def growth(lab):
    """Cost per stamp as the number of stamps grows."""
    lines = []
    for work, job, options, memory, to_reach in (
        ("fit", "fit", {"epochs": 1}, "memory", "<= 0.1"),
        ("predict", "predict", {"repeats": 3}, "anonymous_memory", "<= 0.1"),
        # The returned stamps are included.
        ("make_galaxies", "generate", {"n_jobs": 1}, "memory", "<= 1.1"),
    ):
        runs = {n: lab.run(job, n=n, **options) for n in lab.sizes["growth"]}
        for result in runs.values():
            result["memory"] = result[memory]
        lines += growth_lines(work, runs)
        lines.append(memory_growth_line(work, runs, to_reach))
    return lines


def growth_lines(work, runs):
    """Return the lines of one task: time per stamp relative to the fewest stamps."""
    first = runs[min(runs)]
    return [
        Result(
            f"{work}, time per stamp, {n:,} stamps (reference: {min(runs):,})",
            "ms/stamp",
            1e3 / result["rate"],
            1e3 / first["rate"],
            first["rate"] / result["rate"],
            "<= 1.10",
            result["memory"],
            first["memory"],
        )
        for n, result in runs.items()
        if n != min(runs)
    ]


def memory_growth_line(work, runs, to_reach):
    """Return the memory that each MiB of stamps needs in addition to the input.

    The smallest number of stamps is left out: it does not fill the buffers that every
    number of stamps needs.
    """
    fewest, most = sorted(runs)[-2:]
    more = runs[most]["memory"] - runs[fewest]["memory"]
    stamps = (most - fewest) * STAMP_MIB
    note = f"from {fewest} to {most} stamps, beyond the input"
    return Result(
        f"{work}, memory for more stamps (reference: the stamps)",
        "MiB",
        more,
        stamps,
        more / stamps,
        to_reach,
        note=note,
    )


def gpu(lab):
    """Training and prediction on a GPU, if there is one."""
    if lab.run("machine")["gpu"] is None:
        return []
    options = {"n": lab.sizes["gpu_stamps"], "device": "cuda"}
    training = {**options, "epochs": lab.sizes["epochs"]}
    ours, plain_ours, predicted, plain_predicted, product = lab.take_turns(
        lab.sizes["repeats"],
        ("fit", training),
        ("plain_fit", training),
        ("predict", {**options, "repeats": 3}),
        ("plain_predict", {**options, "repeats": 3}),
        ("matrix_product", {"device": "cuda", "size": 8192}),
    )
    lines = []
    for work, results, reference in (
        ("fit, batches of 64, GPU", ours, plain_ours),
        ("predict, GPU", predicted, plain_predicted),
    ):
        share = median_ratio(results, product, "gflops")
        note = f"{share:.1%} of the rate of the matrix product; memory of the host"
        lines.append(compared(work, "stamps/s", results, reference, note=note))
    return lines


ROWS = {
    row.__name__: row
    for row in (
        training,
        rates,
        prediction,
        profiles,
        galaxies,
        decoding,
        grid,
        growth,
        gpu,
    )
}
