"""Run one job in this process, and print its measurements as JSON."""

import json
import sys

import galaxy_jobs
import network_jobs

JOBS = {job.__name__: job for job in (*network_jobs.JOBS, *galaxy_jobs.JOBS)}

if __name__ == "__main__":
    # The jobs are in other modules, so that pickles and joblib workers find them.
    name, options = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(JOBS[name](**options)))
