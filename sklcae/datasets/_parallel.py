"""Chunks of stamps, computed in parallel jobs."""

import numpy as np

from sklcae._compat import import_optional

_MAX_CHUNK = 32


def map_chunks(function, arguments, sersic_index, *, n_jobs, verbose, purpose, desc):
    """Call a function for chunks of stamps with similar Sersic indices.

    GalSim caches a limited number of tables per process, one for each Sersic index.
    ``arguments`` maps the indices of a chunk's stamps to the arguments of
    ``function``; ``purpose`` is the name of the public function for error messages and
    ``desc`` the label of the progress bar. Yields (indices, result) for each chunk.
    """
    joblib, tqdm = (
        import_optional(name, extra="simulate", purpose=purpose)
        for name in ("joblib", "tqdm")
    )
    order = np.argsort(sersic_index, kind="stable")
    size = min(_MAX_CHUNK, -(-len(order) // (4 * joblib.effective_n_jobs(n_jobs))))
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    results = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(
        joblib.delayed(function)(*arguments(chunk)) for chunk in chunks
    )
    options = {"desc": desc, "unit": "stamp", "disable": not verbose}
    with tqdm.tqdm(total=len(order), **options) as bar:
        for chunk, result in zip(chunks, results, strict=True):
            yield chunk, result
            bar.update(len(chunk))
