"""One configuration becomes the things that training and evaluation work with."""

from easyvideor1.components.components import Components
from easyvideor1.components.media import MediaComponents, PlannedMedia

__all__ = ["Components", "MediaComponents", "PlannedMedia"]
