"""StreamingBench: 4,500 questions about 899 running videos (arXiv 2411.03628). Its main table shows the last 60 s; its
script shows all that was, as ``streamingbench_all`` does. The 250 proactive ones are asked every second, which makes
8,772 questions. How the authors form one number of all parts is unknown."""

from functools import partial
from typing import Any

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers import streaming as s

_FACETS = {"part": "part", "task": "task_type"}
_ASKED = _FACETS | {"proactive": "{stem} {time_stamp} {question}", "ask": "ask", "now": "now", "due": "due"}
_SEEN: dict[str, Any] = {"video": "{stem}.mp4", "end": s.moment("now")}
_AGAIN = _SEEN | {"id": "{stem} {time_stamp} {ask} {now:g}", "start": s.moment("time_stamp"), "facets": _ASKED}
_TIME = '{question}\nIs this the right time to output "{ground_truth_output}"?'
_WHEN = v.plain(question=_TIME, answer="is_due", task="boolean", **_AGAIN)
# The authors look for the text in the reply. Here the reply is the text, or a judge takes it for the same.
_WHAT = v.plain(question="question", answer="ground_truth_output", task="open_ended", **_AGAIN)
_TEXT = _SEEN | {"id": "{stem} {time_stamp}", "context": "earlier", "facets": _FACETS, "repair": s.repair_of}
_CONTEXT = ("Misleading Context Understanding", "Anomaly Context Understanding")
_OMNI = ("Emotion Recognition", "Scene Understanding", "Source Discrimination", "Multimodal Alignment")
_PROACTIVE = partial(v.Metric, where={"part": "proactive"}, group="proactive")
_METRICS = (
    v.Metric("realtime", where={"part": "real"}),
    v.Metric("omni", where={"task": _OMNI}),
    v.Metric("context", where={"task": _CONTEXT}),
    v.Metric("sequential", where={"part": "sqa"}),
    _PROACTIVE("proactive time", of_group=s.in_time),
    _PROACTIVE("proactive answer", of_group=s.right_in_time),
)
_FILES = ("src/data/questions_*[!m0].json", "questions_*[!m0].json")  # not _stream, not _50
_ABOUT: dict[str, Any] = {"hub": "mjuicem/StreamingBench", "licence": "unknown; code MIT", "metrics": _METRICS}
for _name, _past in (("streamingbench", 60.0), ("streamingbench_all", None)):
    _start = s.moment("now", before=_past)
    _once = v.choice(question="question", options=s.whole_options, answer="answer", start=_start, **_TEXT)
    _rows = v.each(s.questions, v.by_kind("ask", {"once": _once, "when": _WHEN, "what": _WHAT}))
    _layout = v.Layout("official", _FILES, _rows, media=("src/data/videos", "videos", "."))
    _title = f"StreamingBench ({'60 s' if _past else 'all'} of past)"
    v.public(v.Benchmark(_name, "1", title=_title, count=8772, breakdown=("task",), layouts=(_layout,), **_ABOUT))
