"""Every public benchmark on a release of our own in its layout, and on real rows where they are present."""

import importlib
import json
import pkgutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.benchmarks import releases
from tests.rewards.judge_server import Server, chat

from easyvideor1.benchmarks import BENCHMARKS, Benchmark, Question, definitions
from easyvideor1.benchmarks.benchmark import Refused, load_definitions
from easyvideor1.benchmarks.metrics import greedy_answers
from easyvideor1.config.schema import JudgeConfig, RewardConfig, RunConfig, SourceConfig
from easyvideor1.data import load_source
from easyvideor1.records.trajectories import TrajectoryRecord, sample_record
from easyvideor1.types import Completion

load_definitions()
REAL = Path(__file__).parents[3] / "shared" / "reference" / "benchmark_rows"
FIXTURES = [
    fixture
    for found in pkgutil.iter_modules(releases.__path__)
    for fixture in importlib.import_module(f"{releases.__name__}.{found.name}").FIXTURES
]


def named(fixture):
    return f"{fixture.benchmark}-{fixture.layout}"


def samples_of(benchmark, questions, directory):
    """The samples that the rows of a benchmark are loaded as; media files need not be there."""
    rows = directory / "rows.jsonl"
    rows.write_text("".join(json.dumps(one.row(benchmark.name)) + "\n" for one in questions), encoding="utf-8")
    loaded = load_source(SourceConfig(path=str(rows)), RunConfig().data, check_media=False)
    return loaded.samples if benchmark.adapt is None else [benchmark.adapt(sample) for sample in loaded.samples]


@contextmanager
def rewards_of(fixture):
    """The rewards of a run; with a judge if the fixture has one."""
    if fixture.judge is None:
        yield RunConfig().rewards
        return
    server = Server(lambda number, body: chat(fixture.judge(*(one["content"] for one in body["messages"]))))
    try:
        yield RewardConfig(judge=JudgeConfig(url=server.url, model="m", cache_dir=None))
    finally:
        server.close()


def answered(benchmark, samples, replies, rewards):
    """The records of greedy replies, scored as an evaluation scores them."""
    scorer = benchmark.open_scorer(rewards) if replies else None
    records = []
    for sample in samples:
        greedy = None
        if (reply := replies.get(sample.id)) is not None:
            score = scorer(sample, Completion(reply, "stop"))
            assert score.applicable, score.reason
            greedy = TrajectoryRecord(reply, len(reply), "stop", score)
        records.append(sample_record(sample, greedy=greedy, error=None if greedy else "failed"))
    return greedy_answers(records)


@pytest.mark.parametrize("fixture", FIXTURES, ids=named)
def test_a_release_is_read_and_scored(fixture, tmp_path):
    benchmark = BENCHMARKS.resolve(fixture.benchmark)
    release = fixture.write(tmp_path / "release")
    read = list(benchmark.read(release))
    questions = [one for one in read if isinstance(one, Question)]
    refused = [one for one in read if isinstance(one, Refused)]
    assert tuple(one.id for one in questions) == fixture.questions
    assert len(refused) == len(fixture.refused), refused
    for one, words in zip(refused, fixture.refused, strict=True):
        assert words in one.reason and one.id, one
    for id_, parts in fixture.parts.items():
        (one,) = (one for one in questions if one.id == id_)
        assert {name: getattr(one, name) for name in parts} == parts
    samples = samples_of(benchmark, questions, tmp_path)
    assert tuple(sample.id for sample in samples) == fixture.questions
    by_id = {sample.id: sample for sample in samples}
    for id_, answer in fixture.answers.items():
        assert by_id[id_].answer == answer
    with rewards_of(fixture) as rewards:
        found = answered(benchmark, samples, fixture.replies, rewards)
    numbers = {metric.name: metric(found) for metric in benchmark.metrics}
    scales = {metric.name: metric.scale for metric in benchmark.metrics}
    for name, number in fixture.numbers.items():
        found = None if numbers[name] is None else numbers[name] * scales[name]
        assert found == (None if number is None else pytest.approx(number, abs=1e-6)), name


@pytest.mark.parametrize("fixture", [one for one in FIXTURES if one.published], ids=named)
def test_real_rows_of_the_published_files(fixture, tmp_path):
    benchmark = BENCHMARKS.resolve(fixture.benchmark)
    for name in fixture.published:
        if not (REAL / name).is_file():
            pytest.skip("shared/reference/benchmark_rows is not here: real rows cannot be read")
        release = tmp_path / name.removesuffix(".json")
        release.mkdir()
        (release / name).write_bytes((REAL / name).read_bytes())
        questions = [one for one in benchmark.read(release) if isinstance(one, Question)]
        rows = json.loads((REAL / name).read_text())
        assert len(questions) == sum(map(fixture.holds, rows)), "every real row is read"
        assert len(samples_of(benchmark, questions, release)) == len(questions)


def test_every_definition_is_small_and_has_a_fixture():
    root = Path(definitions.__path__[0])
    for found in pkgutil.iter_modules(definitions.__path__):
        lines = (root / f"{found.name}.py").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 40, f"{found.name}: {len(lines)} lines"
    public = {name for name in BENCHMARKS.names() if isinstance(BENCHMARKS.resolve(name), Benchmark)}
    assert public == {fixture.benchmark for fixture in FIXTURES}
    for name in public:
        benchmark = BENCHMARKS.resolve(name)
        assert benchmark.title and benchmark.hub and benchmark.licence and benchmark.metrics and benchmark.layouts
        known = {metric.name for metric in benchmark.metrics}
        assert {number for one in FIXTURES if one.benchmark == name for number in one.numbers} <= known
