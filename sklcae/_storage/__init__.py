"""Files: models that are safe to load from strangers, and checkpoints of a fit."""
