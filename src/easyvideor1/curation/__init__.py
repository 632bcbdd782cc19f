"""Curation of data: responses of a model to rows, for `evr1 filter` and `evr1 trajectories`."""
