"""The run on disk: its layout, its identity and status, the checkpoints and the log of its stages, and their damage.

One process owns a run directory and writes it, held by a lock that ends with the process. With several ranks that is
the process that starts the run; the others hand it what they know, or write their files of a checkpoint that the owner
lists in ``state.json``, which is written last.
"""
