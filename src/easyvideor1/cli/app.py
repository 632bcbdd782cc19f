"""The application: its commands, and how errors are shown."""

from __future__ import annotations

import errno
import importlib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from easyvideor1.cli.error_pages import page_of
from easyvideor1.types import EasyVideoError

#: Remedies for errors of the operating system.
_REMEDIES = {
    errno.ENOSPC: "free some disk space and run the same command again; files that were complete are intact",
    errno.EDQUOT: "the disk quota is full: free some space and run the same command again; complete files are intact",
    errno.EROFS: "the file system is read-only; choose another directory",
    errno.EACCES: "change the permissions, or choose another directory",
    errno.EPERM: "change the permissions, or choose another directory",
    errno.EEXIST: "a file exists where a directory is needed; choose another path",
    errno.ENOTDIR: "a file exists where a directory is needed; choose another path",
    errno.EIO: "the disk reported an error; copy the run to another disk and resume it there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: ``attribute`` of ``module`` is its function, or a ``typer.Typer`` with subcommands."""

    name: str
    module: str
    attribute: str


VERBS: tuple[Verb, ...] = (
    Verb("quickstart", "easyvideor1.cli.quickstart", "quickstart"),
    Verb("init", "easyvideor1.cli.init", "init"),
    Verb("recipes", "easyvideor1.cli.recipes", "recipes"),
    Verb("doctor", "easyvideor1.cli.doctor", "doctor"),
    Verb("fit", "easyvideor1.cli.fit", "fit"),
    Verb("train", "easyvideor1.cli.train", "train"),
    Verb("status", "easyvideor1.cli.status", "status"),
    Verb("eval", "easyvideor1.cli.evaluation", "app"),
    Verb("generate", "easyvideor1.cli.generate", "generate"),
    Verb("serve", "easyvideor1.cli.serve", "serve"),
    Verb("view", "easyvideor1.cli.view", "view"),
    Verb("report", "easyvideor1.cli.report", "report"),
    Verb("export", "easyvideor1.cli.export", "export"),
    Verb("filter", "easyvideor1.cli.filter", "filter_rows"),
    Verb("trajectories", "easyvideor1.cli.curation", "app"),
    Verb("cache", "easyvideor1.cli.cache", "app"),
    Verb("check", "easyvideor1.cli.check", "app"),
    Verb("config", "easyvideor1.cli.config", "app"),
    Verb("toyworld", "easyvideor1.cli.toyworld", "toyworld"),
)


class _Group(TyperGroup):
    """Prints errors meant for the user as one message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EasyVideoError as error:
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            show_error(str(error), page_of(error))
            raise typer.Exit(error.exit_status) from error
        except KeyboardInterrupt as error:
            show_error("interrupted")
            raise typer.Exit(130) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader of our output has closed it; typer exits silently
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            show_error(_refusal(error))
            raise typer.Exit(2) from error
        except Exception as error:
            if hasattr(error, "format_message") and hasattr(error, "message"):  # an unknown option or command
                advice = _word_advice(error.message, getattr(error, "ctx", None))
                error.message = f"{error.message.rstrip('.')}. {advice}" if advice else error.message
            raise


def _word_advice(message: str, ctx: Any) -> str:
    """What to write instead of an unknown option or command; empty if there is no advice."""
    command = getattr(ctx, "command", None)
    takes_settings = any(
        parameter.name in ("overrides", "settings", "words") for parameter in getattr(command, "params", ())
    )
    if message.startswith("No such option") and takes_settings:
        return "Write settings without dashes, as key=value, for example stages.0.steps=5."
    word = message.partition("'")[2].partition("'")[0]
    verbs = sorted(getattr(command, "commands", ()))
    if message.startswith("No such command") and verbs and Path(word).exists():
        return f"Put the command first: {ctx.command_path} {verbs[0] if len(verbs) == 1 else '|'.join(verbs)} {word}"
    return ""


def _refusal(error: OSError) -> str:
    """An error of the operating system as one sentence with a remedy."""
    place = error.filename or error.filename2
    words = error.strerror or str(error) or type(error).__name__
    what = f"{place}: {words}" if place else words
    usual = "check the path, its permissions and the free disk space (--debug shows the traceback)"
    remedy = _REMEDIES.get(error.errno or 0, usual)
    return f"{what} - {remedy}"


def show_error(message: str, page: str = "") -> None:
    """Print ``message`` to stderr, in red on a terminal, and the page that says more; lines are never wrapped."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), (message, "red")))
    if page and page not in message:
        console.print(f"  see {page}", markup=False)


def build_app() -> typer.Typer:
    """The application with all its commands."""
    application = typer.Typer(
        name="evr1",
        cls=_Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",  # joins the lines of a paragraph
        help="EasyVideoR1: reinforcement learning with verifiable rewards for video-language models.",
    )
    application.callback()(_root)
    for verb in VERBS:
        target = getattr(importlib.import_module(verb.module), verb.attribute)
        if isinstance(target, typer.Typer):
            application.add_typer(target, name=verb.name)
        else:
            application.command(verb.name)(target)
    return application


def _version(wanted: bool) -> None:
    if wanted:
        from easyvideor1 import __version__

        typer.echo(f"easyvideor1 {__version__}")
        raise typer.Exit


def _root(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


app = build_app()
