"""docs/algorithms.md names everything that can be chosen, and its lines load."""

import re
import typing
from pathlib import Path

import pytest

from easyvideor1.algorithms import kl, objectives, selection
from easyvideor1.algorithms.advantages import ADVANTAGES, generalized_advantages
from easyvideor1.algorithms.aggregation import AGGREGATIONS, token_weights
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.algorithms.weighters import WEIGHTERS, position_divergence
from easyvideor1.config import StageConfig, parse_config
from easyvideor1.config.base import marker_of
from easyvideor1.config.stage_sections import KLConfig

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")


def table(heading):
    """First column -> configuration lines, of the table below a heading."""
    section = PAGE.split(f"\n## {heading}", 1)[1] if f"\n## {heading}" in PAGE else PAGE.split(f"\n### {heading}", 1)[1]
    section = re.split(r"\n##+ ", section, maxsplit=1)[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("|")][2:]
    return {row[0].strip().strip("`"): re.findall(r"`([^`]*)`", row[-1]) for row in rows}


def names(key):
    return set(marker_of(StageConfig.model_fields[key]).names())


TABLES = {
    "Advantages": set(ADVANTAGES.names()),
    "Objectives": set(OBJECTIVES.names()),
    "Offline responses": names("off_policy"),
    "Aggregation": set(AGGREGATIONS),
    "Token weighters": set(WEIGHTERS.names()),
    "KL": set(typing.get_args(KLConfig.model_fields["estimator"].annotation)) - {"none"},
    "Mismatch": set(CORRECTIONS.names()),
}


@pytest.mark.parametrize("heading", TABLES)
def test_every_name_has_a_row_and_every_row_a_name(heading):
    assert set(table(heading)) == TABLES[heading]


@pytest.mark.parametrize("heading", [*TABLES, "What a step is trained on"])
def test_the_lines_load(heading):
    for name, lines in table(heading).items():
        assert lines, name
        text = "\n".join(f"    {line}" for line in ("name: stage", *lines))
        (stage,) = parse_config("stages:\n  -" + text[3:], "page").stages
        if heading in ("Advantages", "Objectives"):
            assert getattr(stage, heading.lower().removesuffix("s")).name == name


def test_the_aggregations_of_the_configuration_are_those_of_the_code():
    assert names("aggregation") == set(AGGREGATIONS)


def names_a_paper(said):
    """Somebody and a year, such as ``Schulman et al. 2017``."""
    return re.search(r"[A-Z]\w+ (et al\. )?(19|20)\d\d", " ".join(said.split()))


@pytest.mark.parametrize("registry", [ADVANTAGES, OBJECTIVES, WEIGHTERS, CORRECTIONS], ids=lambda r: r.kind)
def test_everything_says_what_it_computes(registry):
    for name in registry.names():
        said = registry.resolve(name).__doc__ or ""
        assert "``" in said and (name == "none" or names_a_paper(said)), name


@pytest.mark.parametrize(
    "function",
    [
        kl.full_kl,
        kl.kl_estimate,
        kl.move_average,
        kl.next_weight,
        kl.reward_with_kl,
        kl.token_rewards,
        selection.groups_within,
        selection.soft_overlong_penalty,
        generalized_advantages,
        objectives.off_policy_loss,
        objectives.ratio_base,
        objectives.value_loss,
        objectives.objective_loss,
        position_divergence,
        token_weights,
    ],
    ids=lambda function: function.__name__,
)
def test_what_has_no_name_in_a_registry_names_its_paper_too(function):
    assert "``" in function.__doc__ and names_a_paper(function.__doc__)
