"""Free text by ROUGE, read text (OCR) by word or character error rate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import jiwer
from rapidfuzz.distance import LCSseq

from easyvideor1.rewards.readers.plain_text import typed, unwrapped
from easyvideor1.rewards.types import Reading, Rule, Verdict

#: Scripts written without spaces: their characters are the words.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_TOKEN = re.compile(rf"{_UNSPACED.pattern}|(?:(?!{_UNSPACED.pattern})[^\W_])+")
#: Signs that end a sentence.
_STOPS = frozenset((".", "\u3002"))
#: Words beyond this number count for the length but match nothing: no reference is that long.
_TOKEN_LIMIT = 5000


@cache
def _stemmer() -> Any:
    from rouge_score.tokenizers import DefaultTokenizer  # slow to import, and only these types need it

    return DefaultTokenizer(use_stemmer=True)


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return "".join(_stemmer().tokenize(word)) if word.isascii() else word


def tokens(text: str) -> list[str]:
    """Lower-case words, stemmed as ROUGE does (Porter, words over three letters); one per character where unspaced."""
    words = _TOKEN.findall(text.lower())
    return [_stem(word) if at < _TOKEN_LIMIT and len(word) < 100 else f"\0{at}" for at, word in enumerate(words)]


def _f1(common: int, predicted: int, reference: int) -> float:
    return 2 * common / (predicted + reference) if common else 0.0


def _ngram_f1(predicted: Sequence[Hashable], reference: Sequence[Hashable]) -> float:
    common = (Counter(predicted) & Counter(reference)).total()
    return _f1(common, len(predicted), len(reference))


def rouge(predicted: str, reference: str) -> dict[str, float]:
    """F1 of unigrams, bigrams and the longest common subsequence (Lin 2004), each in [0, 1]."""
    p, r = tokens(predicted), tokens(reference)
    return {
        "rouge1": _ngram_f1(p, r),
        "rouge2": _ngram_f1(list(pairwise(p)), list(pairwise(r))),
        "rougeL": _f1(LCSseq.similarity(p, r), len(p), len(r)),
    }


def _plain(text: str) -> str:
    """Words in lower case with single spaces, without what surrounds the whole text: emphasis, quotes, a final stop."""
    bare = unwrapped(" ".join(typed(text).casefold().split()), brackets=False)
    return unwrapped(bare[:-1].rstrip(), brackets=False) if bare[-1:] in _STOPS and bare[:-1].strip() else bare


def read_text(text: str, options: tuple[str, ...]) -> Reading | None:
    """Any text that says something."""
    return Reading(text.strip()) if text.strip() else None


def _reference(text: str, options: tuple[str, ...]) -> str:
    if not _plain(text):
        raise ValueError("it is empty")
    return text.strip()


def compare_rouge(predicted: str, reference: str, row: Mapping[str, Any]) -> Verdict:
    """Mean of ROUGE-1, ROUGE-2 and ROUGE-L; equal texts (case, spacing and final stop aside) are 1 without it."""
    parts = rouge(predicted, reference)
    same = _plain(predicted) == _plain(reference)
    return Verdict(1.0 if same else sum(parts.values()) / 3, parts)


def compare_ocr(predicted: str, reference: str, row: Mapping[str, Any]) -> Verdict:
    """1 - word error rate, at least 0; characters where the script has no spaces.

    Case, spacing, a final stop, and quotes, emphasis or code marks around all of it are the same on both sides.
    """
    p, r = _plain(predicted), _plain(reference)
    if 2 * len(_UNSPACED.findall(r)) >= len(r.replace(" ", "")):
        accuracy = 1.0 - min(1.0, float(jiwer.cer(r.replace(" ", ""), p.replace(" ", ""))))
        return Verdict(accuracy, {"character_accuracy": accuracy})
    accuracy = 1.0 - min(1.0, float(jiwer.wer(r, p)))
    return Verdict(accuracy, {"word_accuracy": accuracy})


TEXT = Rule(read_text, _reference, compare_rouge, "a text that is not empty", fallback="prose", lists=True)
OCR = Rule(read_text, _reference, compare_ocr, "the text to be read, not empty", fallback="prose", lists=True)
