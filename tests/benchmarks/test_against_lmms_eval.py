"""Our scores beside those of lmms-eval 0.7.3, question by question and in the numbers of each benchmark.

The questions are random rows in a layout that both read. Theirs come from ``process_results`` and the aggregations of
their tasks. The replies have forms that both read; where the two differ, and why, is in docs/benchmarks.md.

lmms-eval needs versions of its own, so it is tested in an environment beside the usual one: install this package with
its test extra there, then ``pip install lmms-eval==0.7.3``, and run pytest on this file.
"""

from importlib import import_module
from statistics import fmean

import pytest
from benchmarks.lmms_eval_scores import compare
from benchmarks.lmms_eval_tasks import CASES

from easyvideor1.benchmarks import BENCHMARKS

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: pip install lmms-eval==0.7.3 (see the docstring)")

QUESTIONS = 240


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scores_are_those_of_lmms_eval(case, tmp_path):
    benchmark, compared = BENCHMARKS.resolve(case.name), compare(case, QUESTIONS, case.choice, case.other, tmp_path)
    differ = compared.differ(benchmark)
    assert not differ, f"(form, reply, reference, ours, theirs): {differ[:5]}"
    assert 0.1 < fmean(compared.scores) < 0.9
    ours = {metric.name: metric(compared.found) for metric in benchmark.metrics}
    module = import_module(f"lmms_eval.tasks.{case.task}.utils")
    for name, number in case.numbers.items():
        assert 100 * ours[name] == pytest.approx(number(module, compared.results), abs=1e-3), name
