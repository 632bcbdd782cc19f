"""``evr1 serve``: an OpenAI-compatible endpoint over a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from easyvideor1.cli.config import GenerationOverrides
from easyvideor1.cli.generate import CheckpointArgument, ConfigOption, EngineOption


def serve(
    checkpoint: CheckpointArgument,
    overrides: GenerationOverrides = None,
    config: ConfigOption = None,
    engine: EngineOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; another one than this machine needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8000,
    api_key: Annotated[
        str, typer.Option(envvar="EVR1_API_KEY", help="Key that clients must send; better in the environment.")
    ] = "",
    media_root: Annotated[
        list[Path] | None,
        typer.Option(
            help="Directory that requests may name files in. Repeatable. Without it, media come as data: URLs."
        ),
    ] = None,
    model_name: Annotated[
        str, typer.Option(help="Name of the model for clients; that of the directory by default.")
    ] = "",
    max_body_mb: Annotated[int, typer.Option(min=1, help="Largest body of a request, in MiB.")] = 64,
    max_requests: Annotated[int, typer.Option(min=1, help="Most requests under way, waiting ones included.")] = 64,
    max_videos: Annotated[int, typer.Option(min=0, help="Most videos of a request.")] = 16,
    max_images: Annotated[
        int, typer.Option(min=0, help="Most images of a request; many clients send a video as its frames.")
    ] = 1024,
    max_frames: Annotated[int, typer.Option(min=1, help="Most frames of a video that comes as a list.")] = 1024,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longest clip, in seconds of video.")] = 3600.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which a request is given up.")] = 600.0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that requests get to finish when the server ends.")
    ] = 30.0,
) -> None:
    """Serve a checkpoint to OpenAI clients, with the prompts and the video handling of a configuration.

    Ctrl-C or SIGTERM ends the server; a second one ends it at once.
    """
    import logging
    import os
    import tempfile

    from easyvideor1.cli.export import checkpoint_to_use
    from easyvideor1.serving.components import answering_config
    from easyvideor1.types import ConfigError

    try:
        from easyvideor1.serving.request_media import MediaLimits
        from easyvideor1.serving.server import ServerOptions
        from easyvideor1.serving.server import serve as run
        from easyvideor1.serving.service import ServerLimits
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ConfigError(f'evr1 serve needs {error.name}: pip install "easyvideor1[serve]"') from error

    options = ServerOptions(
        name=model_name or checkpoint.resolve().name,
        host=host,
        port=port,
        key=api_key,
        roots=tuple(media_root or ()),
        limits=ServerLimits(max_requests, max_body_mb << 20, timeout),
        media=MediaLimits(max_videos, max_images, max_frames, max_seconds),
        grace=grace,
    )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("easyvideor1.serving").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="evr1-serve-") as scratch:
        settings = answering_config(checkpoint, config, overrides or (), Path(scratch), engine=engine)
        used = checkpoint_to_use(checkpoint, settings)
        closed = run(settings, used, options, Path(scratch), lambda line: typer.echo(line, err=True))
    if not closed:
        os._exit(0)  # else Python would end under a thread that computes, which may crash
