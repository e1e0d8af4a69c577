"""The tables of the results pages, made of the records in ``docs/results/data``.

Each function below makes one table, and `made_of` names its records. The pages include
``tables/NAME.rst``, which `write_tables` writes when the site is built. To add a table,
add a function here and a command to ``make.py``, run it, and include the table.
"""

import json
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
DATA, WRITTEN = HERE / "data", HERE / "tables"
TABLES = {}

# A space at which a line is not broken, and the length of cells that have it.
NO_BREAK, SHORT_CELL = "\N{NO-BREAK SPACE}", 10
# The commands of more records than these are not shown below a table.
MANY = 3
SHORT = {"half_light_radius": "radius", "sersic_index": "index"}
PSFS = {
    "profile-fits-one": "Gaussian, 0.7 arcsec",
    "profile-fits-mixed": "One for each stamp, Gaussian and Moffat, 0.5 to 1.2 arcsec, "
    "ellipticity to 0.1",
}
SKY_LEFT = "Gaussian, 0.7 arcsec, and a sky of one standard deviation left"
CASES = {
    "isolated": "No neighbour",
    "one": "One neighbour",
    "four": "Four neighbours",
    "correlated": "Noise correlated by 0.8 pixels",
    "cosmic": "Two cosmic rays on average",
    "bulge": "Bulge (0.1 to 0.6 of the light) and disc",
}


def made_of(*names):
    """Register a function that makes a table of these records.

    The function gets the tables of each record, by name, and returns a DataFrame of
    text.
    """

    def register(function):
        TABLES[function.__name__] = names, function
        return function

    return register


class Tables(dict):
    """The tables of a record, DataFrames by their names, with the record's own name."""

    def __init__(self, name):
        rows = read(name)["tables"]
        super().__init__({title: pd.DataFrame(rows[title]) for title in rows})
        self.name = name


# From records to text -----------------------------------------------------------------


def read(name):
    """Return a record."""
    return json.loads((DATA / f"{name}.json").read_text())


def write_tables(app=None):
    """Write all tables."""
    WRITTEN.mkdir(exist_ok=True)
    for name in TABLES:
        path, text = WRITTEN / f"{name}.rst", as_text(name)
        # Sphinx builds again the pages that include a newer file.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def as_text(name):
    """Return a table, and below it the commands that wrote its records."""
    names, function = TABLES[name]
    missing = [one for one in names if not (DATA / f"{one}.json").exists()]
    if missing:
        command = f"python docs/results/make.py --run {' '.join(missing)}"
        return f"Not recorded yet: ``{command}`` does so.\n"
    return "\n".join([list_table(function(*map(Tables, names))), origin(names)])


def list_table(table):
    """Return a DataFrame of text as a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (list(table), *table.to_numpy().tolist()):
        marks = ["   * -", *["     -"] * (len(row) - 1)]
        cells = map(unbroken, row)
        lines += [f"{m} {cell}".rstrip() for m, cell in zip(marks, cells, strict=True)]
    return "\n".join([*lines, ""])


def unbroken(cell):
    """Return the text of a short cell, such as a range, which stays on one line."""
    return cell.replace(" ", NO_BREAK) if len(cell) <= SHORT_CELL else cell


def origin(names):
    """Return the lines below a table: the commands, or many records by their names."""
    if len(names) > MANY:
        texts = [f"Records: {', '.join(names)}"]
    else:
        texts = [
            f"``python {one['command']}``, {one['date']}, sklcae {one['version']}, "
            f"{one['cores']} cores of {one['processor']}"
            for one in map(read, names)
        ]
    return "\n".join(f".. rst-class:: small text-muted\n\n{one}\n" for one in texts)


def short(name):
    """Return the short name of a parameter."""
    return SHORT.get(name, name)


def joined(values, form="{:.2f}"):
    """Return numbers, separated by commas."""
    return ", ".join(form.format(value) for value in values)


def span(values, form="{:.2f}"):
    """Return the smallest and the largest number."""
    return f"{form.format(min(values))} to {form.format(max(values))}"


def rounded(number, digits=3):
    """Return some digits of a number, without an exponent."""
    return f"{float(f'{number:.{digits}g}'):,.12g}"


def without_repeats(table, column):
    """Leave out the names in a column that stand in the row above."""
    again = table[column] == table[column].shift()
    return table.assign(**{column: table[column].mask(again, "")})


# The bound ----------------------------------------------------------------------------


@made_of("best-scores")
def best_scores(record):
    """Show the best possible R2."""
    rows = [
        {
            "Parameter": row["of"],
            "Best R2": f"{row['best R2']:.3f}",
            "Uncertainty": f"{row['uncertainty']:.1g}",
        }
        for _, row in record["scores"].iterrows()
    ]
    return pd.DataFrame(rows)


def of_fits(records, sky):
    """Return the scores of fits in fifths of signal-to-noise."""
    rows = []
    for record in records:
        bins = record["bins"].query(f"method == 'fit, {sky} sky'")
        for ratio, part in bins.groupby("S/N", sort=False):
            rows.append(
                {
                    "PSF": PSFS.get(record.name, SKY_LEFT),
                    "S/N": ratio,
                    "Dispersion over the bound": span(part[f"over, {sky}"]),
                    "The same, at the bound": span(part["best"]),
                    "Largest bias over the error": f"{part['bias'].abs().max():.2f}",
                    "In 68 %": span(part["in 68, std"], "{:.0f}"),
                    "In 95 %": span(part["in 95, std"], "{:.0f}"),
                    "In 95 %, interval": span(part["in 95, interval"], "{:.0f}"),
                }
            )
    return without_repeats(pd.DataFrame(rows), "PSF")


@made_of(*PSFS, "profile-fits-sky")
def fits_free_sky(*records):
    """Show profile fits with a free sky."""
    return of_fits(records, "free")


@made_of(*PSFS)
def fits_fixed_sky(*records):
    """Show profile fits with a fixed sky."""
    return of_fits(records, "fixed")


def of_one_pass(record, sky):
    """Return the scores of one pass in fifths of signal-to-noise, over a bound."""
    rows = []
    bins = record["bins"].query("method == 'one pass'")
    for ratio, part in bins.groupby("S/N", sort=False):
        over = dict(zip(map(short, part["of"]), part[f"over, {sky}"], strict=True))
        # The record has it in units of the bound with a fixed sky.
        bias = part["bias"].abs() * part[f"over, {sky}"] / part["over, fixed"]
        rows.append(
            {
                "S/N": ratio,
                **{name: f"{value:.2f}" for name, value in over.items()},
                "Largest bias over the error": f"{bias.max():.2f}",
                "In 68 %": span(part["in 68, interval"], "{:.0f}"),
                "In 95 %": span(part["in 95, interval"], "{:.0f}"),
            }
        )
    return pd.DataFrame(rows)


@made_of("one-pass-ground")
def one_pass_ground(record):
    """Show the pretrained model in fifths of signal-to-noise."""
    return of_one_pass(record, "free")


@made_of("one-pass")
def one_pass(record):
    """Show a model for all PSFs in fifths of signal-to-noise."""
    return of_one_pass(record, "fixed")


@made_of("one-pass-ground")
def ground_r2(record):
    """Show R2 of the pretrained model."""
    scores = record["R2"].query("method == 'one pass'")
    pairs = zip(scores["of"], scores["R2"], strict=True)
    return pd.DataFrame([{short(of): f"{r2:.3f}" for of, r2 in pairs}])


@made_of("undersampled")
def undersampled(record):
    """Show the errors of fits through narrow PSFs."""
    rows = [
        {
            "FWHM of the PSF [pixels]": f"{row['FWHM']:g}",
            "Flux [%]": f"{row['flux']:.2g}",
            "Radius [%]": f"{row['radius']:.2g}",
            "Index [%]": f"{row['index']:.2g}",
        }
        for _, row in record["errors"].sort_values("FWHM").iterrows()
    ]
    return pd.DataFrame(rows)


# Coverage -----------------------------------------------------------------------------


COVERED = {
    "profile-fits-one": ("Profile fit, one PSF", "fit, free sky"),
    "profile-fits-mixed": ("Profile fit, a PSF for each stamp", "fit, free sky"),
    "one-pass-ground": ('"ground", a PSF for each stamp', "one pass"),
}


@made_of(*COVERED)
def coverage(*records):
    """Show the shares within the intervals; the fifths are equally large."""
    rows = []
    for record in records:
        title, method = COVERED[record.name]
        bins = record["bins"].query(f"method == '{method}'")
        for level in (68, 95):
            shares = bins.groupby("of", sort=False)[f"in {level}, interval"].mean()
            columns = {short(of): f"{share:.1f}" for of, share in shares.items()}
            rows.append({"Estimator": title, "Interval": f"{level} %", **columns})
    return without_repeats(pd.DataFrame(rows), "Estimator")


def of_coverage(record, suffix=""):
    """Return the shares within the intervals, in all and in parts of the galaxies."""
    rows = []
    for level in (68, 95):
        shares = record[f"coverage_{level}{suffix}"]
        for part, share in shares.groupby(PART, sort=False):
            values = share.drop(columns=[MODEL, PART]).mean()
            columns = {short(of): f"{value:.1f}" for of, value in values.items()}
            rows.append({"Interval": f"{level} %", "Galaxies": part, **columns})
    return without_repeats(pd.DataFrame(rows), "Interval")


# The first columns of the tables of ``uncertainty_study.py`` have no name.
MODEL, PART = "Unnamed: 0", "Unnamed: 1"


@made_of("error-bars")
def error_bars(record):
    """Show the coverage of a neural field."""
    return of_coverage(record)


@made_of("error-bars-turned")
def error_bars_turned(record):
    """Show the coverage of the mean over flips and rotations."""
    return of_coverage(record, "_turned")


@made_of("error-bars")
def conformal(record):
    """Show MAPIE's intervals of the flux; a last row has their width."""
    shares = record["mapie_flux_68"].drop(columns=MODEL)
    shares = shares.groupby(PART, sort=False).mean().T
    rows = [
        {
            "68 % intervals of the flux": name.removeprefix("MAPIE, "),
            **{
                part: f"{value:.1f}" for part, value in row.items() if "ADU" not in part
            },
        }
        for name, row in shares.iterrows()
    ]
    return pd.DataFrame(rows)


@made_of("error-bars")
def novelty(record):
    """Show which kinds of stamps are distinguished from galaxies."""
    kinds = record["unlike"].drop(columns=MODEL).groupby(PART, sort=False).mean()
    rows = [
        {
            "Stamps": kind[0].upper() + kind[1:],
            "ROC AUC": f"{row['ROC AUC']:.2f}",
            "Flagged [%]": f"{row['flagged, %']:.1f}",
        }
        for kind, row in kinds.iterrows()
    ]
    return pd.DataFrame(rows)


@made_of("other-error-bars")
def other_error_bars(record):
    """Compare methods for error bars."""
    rows = [
        {
            "Method": row["method"][0].upper() + row["method"][1:],
            "R2": f"{row['R2']:.3f}",
            "-log likelihood": f"{row['-log likelihood']:.3f}",
            "Worst of 68 % [points]": f"{100 * row['worst of 68%']:.0f}",
            "Worst of 95 % [points]": f"{100 * row['worst of 95%']:.0f}",
            "Passes": f"{row['passes']:.0f}",
        }
        for _, row in record["methods"].iterrows()
    ]
    return pd.DataFrame(rows)


# Incomplete data ----------------------------------------------------------------------


def of_flux_and_radius(title, names, scores):
    """Return R2 of flux and radius, a row for each name."""
    columns = {"Flux": scores["flux"], "Radius": scores["half_light_radius"]}
    texts = {name: column.map("{:.3f}".format) for name, column in columns.items()}
    return pd.DataFrame({title: names, **texts})


@made_of("incomplete-data")
def masked_pixels(record):
    """Show R2 of stamps with masked pixels."""
    scores = record["masked_pixels"]
    shares = (100 * scores["share masked"]).map("{:.1f}".format)
    return of_flux_and_radius("Masked [%]", shares, scores)


@made_of("incomplete-data")
def missing_targets(record):
    """Show R2 after a training with missing targets."""
    scores = record["missing_targets"]
    trained = scores["trained on"].str.replace("labeled", "labelled")
    return of_flux_and_radius("Training set", trained, scores)


@made_of("unlabelled")
def unlabelled(record):
    """Show the dispersion over the bound, and R2, of four training sets."""
    shares = record["shares"].set_index("trained")["of dispersion"]
    closed = {
        "100 labelled, 2,000 not": shares["2,000 unlabelled"],
        "100 labelled, simulation": shares["simulation"],
    }
    rows = []
    for trained, scores in record["scores"].groupby("trained", sort=False):
        over = dict(
            zip(map(short, scores["of"]), scores["over the bound"], strict=True)
        )
        rows.append(
            {
                "Training set": trained,
                **{name: f"{value:.2f}" for name, value in over.items()},
                "Mean R2": f"{scores['R2'].mean():.3f}",
                "Gap closed": f"{closed[trained]:.2f}" if trained in closed else "",
            }
        )
    return pd.DataFrame(rows)


# Crowded and spoiled stamps -----------------------------------------------------------

FITTED = {
    **dict.fromkeys(("isolated", "one", "four"), "with neighbours"),
    "correlated": "correlated noise",
    "cosmic": "masked",
    "bulge": "bulge and disc",
}
PLAIN = {"correlated": "independent noise", "cosmic": "not masked"}
FIRST = ["flux", "half", "sers", "e1"]


def of_cases(records):
    """Return the scores of bright galaxies, a row for each case and method."""
    cases = pd.concat([record["cases"] for record in records])
    rows = []
    for _, row in cases[cases[""] == "bright"].iterrows():
        case, plain = row["case"], row["method"] == "fit, plain"
        # A profile has one index; a bulge and a disc have none of it in common.
        named = FIRST[:2] if case == "bulge" else FIRST
        rows.append(
            {
                "Stamps": CASES[case],
                "Fit": PLAIN.get(case, "one profile") if plain else FITTED[case],
                "Outliers [%]": f"{row['outliers']:.1f}",
                "Bias of flux, radius, index [%]": joined(
                    [row[f"bias {name}"] for name in named[:3]], "{:.1f}"
                ),
                "Dispersion: flux, radius, index, e1": joined(
                    row[f"over {name}"] for name in named
                ),
                "In 68 %: flux, radius, index, e1": joined(
                    [row[f"in 68 {name}"] for name in named], "{:.0f}"
                ),
            }
        )
    return without_repeats(pd.DataFrame(rows), "Stamps")


@made_of("crowded-neighbours", "crowded-four", "crowded-defects")
def crowded_fits(*records):
    """Show profile fits of crowded and spoiled stamps."""
    return of_cases(records)


@made_of("crowded-defects")
def cosmic_ray_flag(record):
    """Show how often a cosmic ray is flagged; the flag is the same for all fits."""
    row = record["cosmic rays"].iloc[0]
    return pd.DataFrame(
        {
            "Stamps": ["With a hit", "Without a hit"],
            "Flagged [%]": [f"{row['hit']:.1f}", f"{row['others']:.1f}"],
        }
    )


@made_of("crowded-ground")
def crowded_ground(record):
    """Show one pass of the pretrained model on crowded and spoiled stamps."""
    return of_cases([record]).drop(columns="Fit")


@made_of("crowded-colours")
def colours(record):
    """Show the errors of colours."""
    rows = [
        {
            "Galaxies": row["galaxies"],
            "Colour": row["colour"],
            "Bias [mag]": f"{row['bias [mag]']:.4f}",
            "Dispersion over the predicted error": (
                f"{row['over the predicted error']:.2f}"
            ),
            "In 68 %": f"{row['in 68']:.0f}",
            "Aperture of 1.5 arcsec: dispersion over that of the fit": (
                f"{row['aperture of 1.5 arcsec over the fit']:.2f}"
            ),
        }
        for _, row in record["colours"].iterrows()
    ]
    return without_repeats(pd.DataFrame(rows), "Galaxies")


@made_of("crowded-colours")
def wrong_psf(record):
    """Show how well a wrong PSF is found."""
    rows = [
        {
            "Galaxies": row["galaxies"],
            "ROC AUC": f"{row['ROC AUC']:.2f}",
            "Flagged with the right PSF [%]": f"{row['flagged, right']:.1f}",
            "Flagged with the wrong PSF [%]": f"{row['flagged, wrong']:.1f}",
        }
        for _, row in record["psf"].iterrows()
    ]
    return pd.DataFrame(rows)


FLAGGED = {
    "clean": "Clean",
    "sky": "A sky of 2 to 10 ADU",
    "cosmic": "Three cosmic rays on average",
    "neighbours": "1.5 neighbours on average",
    "correlated": CASES["correlated"],
    "bulge": "Bulge (0.2 to 0.6 of the light) and disc",
    "saturation": "Saturation",
    "psf": "PSF given as 0.7 arcsec, 1.2 in truth",
    "spoiled": "All but the clean ones",
}


@made_of("flags")
def flags(record):
    """Show which errors have a flag."""
    rows = {title: {"Stamps": title} for title in FLAGGED.values()}
    for _, row in record["flags"].iterrows():
        method = "Fit" if row["method"] == "fit" else "One pass"
        for kind in ("wrong", "flagged", "false"):
            text = "" if pd.isna(row[kind]) else f"{row[kind]:.1f}"
            rows[FLAGGED[row["case"]]][f"{method}: {kind} [%]"] = text
    return pd.DataFrame(rows.values())


def of_three(kind):
    """Return the names of the columns of flux, radius and index."""
    return [f"{kind} {name}" for name in ("flux", "radius", "index")]


def of_adapted(models):
    """Return the errors of models in both surveys."""
    rows = [
        {
            "Model": row["model"][0].upper() + row["model"][1:],
            "Error of flux, radius, index": joined(row[of_three("error")], "{:.3f}"),
            # A share of zero in all three means that there was no error bar.
            "In 68 %": joined(row[of_three("in 68")], "{:.0f}")
            if any(row[of_three("in 68")])
            else "no error bars",
            "Change in the first survey [%]": joined(row[of_three("old")], "{:+.1f}"),
            "Seconds": f"{row['s']:.0f}" if row["s"] else "",
        }
        for _, row in models.iterrows()
    ]
    return pd.DataFrame(rows)


# The names of the other ways with 100 labels begin like this.
OTHER_WAY = "100 labels, "


@made_of("adapt")
def adapted(record):
    """Show a model that is adapted to another survey."""
    models = record["models"]
    return of_adapted(models[~models["model"].str.startswith(OTHER_WAY)])


@made_of("adapt")
def other_adaptations(record):
    """Show other ways to adapt it with 100 labels."""
    models = record["models"]
    models = models[models["model"].str.startswith(OTHER_WAY)]
    return of_adapted(models.assign(model=models["model"].str.removeprefix(OTHER_WAY)))


# The paper, and the decoder -----------------------------------------------------------


PAPER_METHODS = {
    "PCA, best single component": "PCA, best single component",
    "PCA, 64 components": "PCA, 64 components, linear regression",
    "CAE": "CAE, default (the paper's, linear scaling)",
    "CAE, asinh, dihedral": "CAE, asinh stretch, dihedral augmentation",
    "CAE, galaxies in the middle": "CAE, default, galaxies in the middle",
    "Shipped weights, galaxies in the middle": '"ground", galaxies in the middle',
}


@made_of("paper")
def paper_r2(record):
    """Show R2 of flux and radius, ours and the paper's."""
    table = record["r2"].rename(columns={"method": ""})
    table[""] = table[""].map(PAPER_METHODS)
    near_zero = table["flux, paper"] == 0
    table = table.map(lambda x: x if isinstance(x, str) else f"{x:.3f}")
    table.loc[near_zero, ["flux, paper", "radius, paper"]] = "near 0"
    return table.replace("nan", "")


@made_of("paper")
def paper_slopes(record):
    """Show how flux and radius of the images follow the latents."""
    cae, ground = record["sweep_slopes_cae"], record["sweep_slopes_shipped_weights"]
    rows = [
        {
            "Latent": one["asked"].replace("_", " "),
            "Measured": one["measured"].replace("_", " "),
            "Ideal": f"{one['wanted']:.0f}",
            "GalSim": plain(one["GalSim"]),
            "CAE, default": plain(one["CAE"]),
            '"ground" (GalSim)': f"{plain(other['CAE'])} ({plain(other['GalSim'])})",
        }
        for (_, one), (_, other) in zip(cae.iterrows(), ground.iterrows(), strict=True)
    ]
    return pd.DataFrame(rows)


def plain(number):
    """Return two digits after the point, and no minus at zero."""
    return f"{number + 0.0:.2f}".replace("-0.00", "0.00")


TRAININGS = {
    "all-parameters": "909 stamps, 100 epochs",
    "all-parameters-large": "20,000 stamps, 12 epochs",
}
KINDS = {
    "R2, all": "One pass",
    "range over seeds, all": "Range over three seeds",
    "R2, all, turned": "``test_time_augmentation``",
    "R2, n > 3": "One pass, only index above 3",
}


@made_of(*TRAININGS)
def all_parameters(*records):
    """Show R2 of all parameters, and the best possible one."""
    rows = []
    for record in records:
        (scores,) = record.values()
        scores = scores.set_index("target")
        for kind, title in KINDS.items():
            if scores[kind].any():
                names = {"Training set": TRAININGS[record.name], "R2": title}
                rows.append(names | in_columns(scores[kind]))
    names = {"Training set": "", "R2": "Best possible"}
    rows.append(names | in_columns(scores["best"]))
    return without_repeats(pd.DataFrame(rows), "Training set")


def in_columns(scores, form="{:.3f}"):
    """Return the text of scores by the short names of their parameters."""
    return {short(name): form.format(score) for name, score in scores.items()}


STUDIED = {
    "paper": "Paper's network and loss",
    "neural field, pairs": "Neural field, pairs, two targets",
    "neural field, all": "Neural field, one group, seven targets",
    "neural_field_20000_12_0": "The same, 20,000 stamps",
}


@made_of("closure")
def closure(record):
    """Show whether decoded images have the flux and the radius that were set."""
    rows = {}
    for _, one in record["closure"].iterrows():
        row = rows.setdefault(one["model"], {"Model": STUDIED[one["model"]]})
        name = short(one["swept"]).capitalize()
        row[f"{name}: R2"] = f"{one['r2']:.3f}"
        row[f"{name}: slope"] = f"{one['slope']:.2f}"
        row[f"{name}: other"] = f"{one['change']:.1%}".replace("%", f"{NO_BREAK}%")
        row[f"{name}: unusable"] = f"{one['n_unusable']:.0f}"
    return pd.DataFrame(rows.values())


@made_of("closure")
def disentanglement(record):
    """Show the scores of reconstructions and latents."""
    scores = record["reconstruction"].set_index("Unnamed: 0")
    rows = []
    for name, column in scores.items():
        dci = [column[f"DCI, {kind}"] for kind in DCI]
        rows.append(
            {
                "Model": STUDIED[name],
                "Residual": f"{column['reconstruction, chi-square a pixel']:.2f}",
                "Median residual": f"{column['its median over stamps']:.2f}",
                "DCI: D, C, I": joined(dci),
                "MIG": f"{column['MIG']:.2f}",
                "SAP": f"{column['SAP']:.2f}",
            }
        )
    return pd.DataFrame(rows)


DCI = ("disentanglement", "completeness", "informativeness")


# Other tools --------------------------------------------------------------------------

COMPARISONS = ("compare-galsim", "compare-tools", "compare-fits", "compare-networks")
COMPARED = {
    "flux": "Flux",
    "half_light_radius": "Radius",
    "sersic_index": "Index [dex]",
    "e1": "e1",
    "x0": "x0 [pixels]",
}


def of_group(records, group):
    """Return bias, dispersion and outliers of a group, a row for each method."""
    scores = pd.concat([record["profile_fitting"] for record in records])
    # Each run has the bound, of the same galaxies.
    scores = scores.drop_duplicates(["group", "method", "target"])
    bound = scores["method"] == "Cramer-Rao bound"
    scores = pd.concat([scores[~bound], scores[bound]])
    rows = {}
    for _, one in scores[scores["group"] == group].iterrows():
        row = rows.setdefault(one["method"], {"Method": one["method"]})
        is_bound = pd.isna(one["n_failed"])
        row["Core-ms"] = "" if is_bound else rounded(1000 * one["core_seconds"], 2)
        row["Failed"] = "" if is_bound else f"{one['n_failed']:.0f}"
        if one["target"] in COMPARED:
            row[COMPARED[one["target"]]] = errors_of(one)
    return pd.DataFrame(rows.values())


def errors_of(one):
    """Return bias, dispersion and outliers, or the dispersion alone."""
    if pd.isna(one["bias"]):
        return "" if pd.isna(one["dispersion"]) else f"{one['dispersion']:.3f}"
    share = f"{one['outlier_share']:.0%}".replace("%", f"{NO_BREAK}%")
    return f"{one['bias']:+.3f}, {one['dispersion']:.3f}, {share}"


@made_of(*COMPARISONS)
def compared_bright(*records):
    """Compare methods on bright galaxies."""
    return of_group(records, "bright")


@made_of(*COMPARISONS)
def compared_faint(*records):
    """Compare methods on faint galaxies."""
    return of_group(records, "faint")


@made_of(*COMPARISONS)
def compared_cut(*records):
    """Compare methods on galaxies at the edge of their stamp."""
    return of_group(records, "cut")


# Speed --------------------------------------------------------------------------------


@made_of("speed")
def speed(record):
    """Compare the speed and memory of sklcae with references."""
    rows = record["rows"]
    # A network trained for ten epochs has a speed, but no accuracy worth a table.
    rows = rows[rows["unit"] != ""]
    return pd.DataFrame([speed_row(row) for _, row in rows.iterrows()])


def speed_row(row):
    """Return a task, both measurements, their ratio and the goal."""
    missed = "" if row["reached"] in (True, None) else ", missed"
    return {
        "Task": row["work"],
        "sklcae": f"{rounded(row['ours'])} {row['unit']}",
        "Reference": "" if pd.isna(row["reference"]) else rounded(row["reference"]),
        # A goal without a ratio is for the measurement itself.
        "Ratio": "" if row["value"] == row["ours"] else rounded(row["value"]),
        "Goal": "" if pd.isna(row["to_reach"]) else row["to_reach"] + missed,
    }


# Many stamps --------------------------------------------------------------------------


@made_of("catalogs-cluster", "catalogs-fits")
def catalogs(*records):
    """Show speed and memory of workers, and of the command line."""
    rows = [
        {
            "Task": row["task"],
            "Median": f"{rounded(row['median'])} {row['unit']}".strip(),
            "All runs": f"{rounded(row['least'])} to {rounded(row['most'])}",
            "Goal": "" if pd.isna(row["to_reach"]) else goal(row),
        }
        for record in records
        for _, row in record["tasks"].iterrows()
    ]
    return pd.DataFrame(rows)


def goal(row):
    """Return the goal of a median, and whether it is missed."""
    at_most, _, limit = row["to_reach"].rpartition(" ")
    reached = (row["median"] < float(limit)) == bool(at_most)
    return row["to_reach"] + ("" if reached else ", missed")


@made_of("catalogs-costs")
def costs(record):
    """Show processor time and money of each step; the larger numbers are computed."""
    rows = []
    for _, row in record["steps"].iterrows():
        columns = {"Step": row["step"], "Core-ms a galaxy": f"{row['core-ms']:.2f}"}
        for count, title in COUNTS.items():
            hours = count * row["core-ms"] / 1000 / 3600
            money = rounded(hours * MONEY_OF_CORE_HOUR)
            columns[title] = f"{rounded(hours)} h, ${money}"
        rows.append(columns)
    return pd.DataFrame(rows)


# Dollars for a core-hour.
MONEY_OF_CORE_HOUR = 0.04
COUNTS = {10**6: "10^6", 10**9: "10^9 (not run)", 2 * 10**10: "2 x 10^10 (not run)"}


# Real galaxies ------------------------------------------------------------------------


@made_of("real-galaxies")
def real_galaxies(record):
    """Show the dispersion for real galaxies, over that for profiles like them."""
    rows = []
    for method, scores in record["scores"].groupby("method", sort=False):
        scores = scores.set_index("of")
        for kind in ("copies", "twins"):
            names = {"Method": method, "Compared with": kind}
            rows.append(names | in_columns(scores[f"real / {kind}"], "{:.2f}"))
    return without_repeats(pd.DataFrame(rows), "Method")


@made_of("shapelets")
def shapelets(record):
    """Show chi-square of galaxies that were held out."""
    rows = []
    for _, row in record["models"].iterrows():
        mean, median = row["chi-square"].split()
        name = LATENTS.get(str(row["latents"]), str(row["latents"]))
        rows.append({"": name, "Mean": mean, "Median": median})
    return pd.DataFrame(rows)


LATENTS = {
    "8": "Network, one coefficient",
    "64": "Network, 57 coefficients",
    "profile fit": "Profile fit",
    "and shapelets": "Profile fit, and 57 coefficients by least squares for each stamp",
}


# The first page -----------------------------------------------------------------------


@made_of(
    "best-scores",
    "profile-fits-mixed",
    "one-pass-ground",
    "crowded-neighbours",
    "crowded-ground",
)
def summary(best, fits, ground, crowded, crowded_ground):
    """Show one line for each subject."""

    def brightest(record, method, column):
        bins = record["bins"].query(f"method == '{method}'")
        last = bins[bins["S/N"] == bins["S/N"].iloc[-1]].set_index("of")[column]
        return joined(last[["flux", "half_light_radius"]])

    def neighbour(record, method):
        cases = record["cases"]
        chosen = (cases["case"] == "one") & (cases["method"] == method)
        row = cases[chosen & (cases[""] == "bright")].iloc[0]
        return joined([row["over flux"], row["over half"]])

    def within(record, method):
        bins = record["bins"].query(f"method == '{method}'")
        return span(bins.groupby("of")["in 68, interval"].mean(), "{:.0f}") + " %"

    scores = best["scores"].set_index("of")["best R2"]
    over = "dispersion over the bound, flux and radius"
    inside = "true values within the 68 % interval, all parameters"
    fit, one = "fit, free sky", "one pass"
    lines = [
        (
            "Best possible R2 of flux and radius",
            joined(scores[["flux", "half_light_radius"]], "{:.3f}"),
            ":doc:`bound`",
        ),
        (
            f"Profile fits, brightest fifth: {over}",
            brightest(fits, fit, "over, free"),
            ":doc:`bound`",
        ),
        (
            f'One pass of "ground", brightest fifth: {over}',
            brightest(ground, one, "over, free"),
            ":doc:`bound`",
        ),
        (f"Profile fits: {inside}", within(fits, fit), ":doc:`coverage`"),
        (f'One pass of "ground": {inside}', within(ground, one), ":doc:`coverage`"),
        (
            f"Profile fits, one neighbour on the stamp: {over}",
            neighbour(crowded, "fit"),
            ":doc:`crowded`",
        ),
        (
            f'One pass of "ground", one neighbour: {over}',
            neighbour(crowded_ground, one),
            ":doc:`crowded`",
        ),
    ]
    return pd.DataFrame(lines, columns=["Measurement", "Value", "Page"])
