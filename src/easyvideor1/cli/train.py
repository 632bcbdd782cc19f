"""``evr1 train``: do, or finish, the run that a configuration describes."""

from __future__ import annotations

from easyvideor1.cli.config import ConfigArgument, OverridesArgument


def train(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Train. Started again with the same words after a kill, it goes on where it was and ends the same."""
    from rich.console import Console

    from easyvideor1.cli.session import train_and_report
    from easyvideor1.config import load_config
    from easyvideor1.evaluation import print_summary

    console = Console(stderr=True)
    summary = train_and_report(load_config(config, overrides or ()), console)
    if summary["accuracy_after"] is not None:
        print_summary(summary, Console())
