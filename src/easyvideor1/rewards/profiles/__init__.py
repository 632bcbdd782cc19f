"""The scores of the two published reward packages, restated for comparison only.

They are here to measure what strict scoring changes, faults included, and are not meant for training. What the
published code turns into 0 (an exception, an unreadable reference) is 0 here too, never "not applicable". Its exact
grader, ``mathruler``, stands here as equality of texts without regard to case, and for math as this library's own
comparison.
"""

from easyvideor1.rewards.profiles.differences import DIFFERENCES, Difference
from easyvideor1.rewards.profiles.published import PROFILES, published_score

__all__ = ["DIFFERENCES", "PROFILES", "Difference", "published_score"]
