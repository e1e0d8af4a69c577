"""Run one job in this process, and print what it measured as JSON."""

import json
import sys

import galaxy_jobs
import network_jobs

JOBS = {job.__name__: job for job in (*network_jobs.JOBS, *galaxy_jobs.JOBS)}

if __name__ == "__main__":
    # So that pickles, and the workers of joblib, find what is defined here.
    name, options = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(JOBS[name](**options)))
