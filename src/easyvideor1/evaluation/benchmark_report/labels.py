"""Names for results in tables: the model, and what tells its results apart where it has several on one benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.files import flat

_MOST = 3
_LONGEST = 24


def facts(certificate: Certificate) -> dict[str, Any]:
    """Everything that moves a score, by dotted key."""
    return {
        "version": certificate.version,
        **flat({"asking": dict(certificate.asking), "scoring": dict(certificate.scoring)}),
    }


def differing(certificates: Sequence[Certificate]) -> list[str]:
    """The keys of ``facts`` whose values are not the same in all of these, in order of appearance."""
    found = [facts(each) for each in certificates]
    keys = dict.fromkeys(key for each in found for key in each)
    return [key for key in keys if any(key not in each or each[key] != found[0].get(key) for each in found)]


def labels(certificates: Sequence[Certificate], benchmarks: Sequence[str]) -> list[str]:
    """A label for each result, equal for results of one model with the same settings on several benchmarks.

    It is the model's name. Where a model has several results on one benchmark, the first settings in which these differ
    follow, and the digest if that is still not enough; its results on other benchmarks have the settings in their label
    if they are the same. A probe has the label of its score; several of one kind whose score is missing have their
    digests in theirs.

    Args:
        certificates: those of all results.
        benchmarks: the benchmark of each; a probe's is that of its score.
    """
    pairs = list(zip(certificates, benchmarks, strict=True))
    scores: dict[tuple[str, str], list[Certificate]] = {}
    for each, benchmark in pairs:
        if not each.probe:
            scores.setdefault((each.model, benchmark), []).append(each)
    keys: dict[str, list[str]] = {}
    for (model, _), several in scores.items():
        known = keys.setdefault(model, [])
        known += [key for key in differing(several) if key not in known]
    detailed = {_label(each, keys[each.model]) for several in scores.values() if len(several) > 1 for each in several}
    named = [_label(each, keys.get(each.model, [])) for each in certificates]
    named = [name if name in detailed else each.model for each, name in zip(certificates, named, strict=True)]
    taken = Counter((name, benchmark) for name, (each, benchmark) in zip(named, pairs, strict=True) if not each.probe)
    found = [
        f"{name} [{each.digest[:8]}]" if taken[name, benchmark] > 1 else name
        for name, (each, benchmark) in zip(named, pairs, strict=True)
    ]
    alike = Counter((each.model, benchmark, each.probe) for each, benchmark in pairs)
    for place, (each, benchmark) in enumerate(pairs):
        if each.probe:
            alone = f"{each.model} [{each.digest[:8]}]" if alike[each.model, benchmark, each.probe] > 1 else each.model
            found[place] = _of_its_score((each, benchmark), pairs, found) or alone
    return found


def _label(certificate: Certificate, keys: Sequence[str]) -> str:
    values = facts(certificate)
    told = [f"{key.rpartition('.')[2]} {_short(values.get(key))}" for key in keys[:_MOST]]
    return f"{certificate.model} ({', '.join(told)})" if told else certificate.model


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _of_its_score(
    probe: tuple[Certificate, str], pairs: Sequence[tuple[Certificate, str]], found: Sequence[str]
) -> str:
    """The label of the score whose settings are nearest to those of a probe; empty if there is none."""
    same = [
        (len(differing([probe[0], each])), place)
        for place, (each, benchmark) in enumerate(pairs)
        if not each.probe and (each.model, benchmark) == (probe[0].model, probe[1])
    ]
    return found[min(same)[1]] if same else ""
