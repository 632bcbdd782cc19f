"""Subjects of benchmarks of college knowledge, and the disciplines that their tables are made by."""

from __future__ import annotations

from collections.abc import Mapping

_MMVU: Mapping[str, str] = {
    "Science": "Astronomy, Biology, Chemistry, Electromagnetism, Geography, Materials Science, Mechanics, "
    "Modern Physics, Neurobiology, Thermodynamics",
    "Engineering": "Biomedical Engineering, Civil Engineering, Computer Science, Electrical Engineering, "
    "Electronics and Communication, Mechanical Engineering",
    "Healthcare": "Basic Medicine, Clinical Medicine, Dentistry, Pharmacy, Preventive Medicine",
    "Humanities": "Art, Economics, History, Law, Literature, Management",
}
_VIDEO_MMMU: Mapping[str, str] = {
    "Art": "Art, Art Theory, Design, Music",
    "Business": "Accounting, Economics, Finance, Manage, Marketing",
    "Science": "Biology, Chemistry, Geography, Math, Physics",
    "Medicine": "Basic Medical Science, Clinical Medicine, Diagnostics and Laboratory Medicine, Pharmacy, "
    "Public Health",
    "Humanities": "History, Literature, Psychology, Sociology",
    "Engineering": "Agriculture, Architecture and Engineering, Computer Science, Electronics, Energy and Power, "
    "Materials, Mechanical Engineering",
}


def _by_subject(disciplines: Mapping[str, str]) -> Mapping[str, str]:
    return {subject: name for name, subjects in disciplines.items() for subject in subjects.split(", ")}


#: The 27 subjects of MMVU's validation set (arXiv 2501.12380).
MMVU: Mapping[str, str] = _by_subject(_MMVU)
#: The 30 subjects of Video-MMMU (arXiv 2501.13826); the disciplines are the folders of its videos.
VIDEO_MMMU: Mapping[str, str] = _by_subject(_VIDEO_MMMU)
