"""One policy on several ranks: the process of the run leads, the others follow its calls."""
