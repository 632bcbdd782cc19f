"""One configuration becomes the things that training and evaluation work with."""

from easyvideor1.workbench.bench import Workbench
from easyvideor1.workbench.media import MediaBench, PlannedMedia

__all__ = ["MediaBench", "PlannedMedia", "Workbench"]
