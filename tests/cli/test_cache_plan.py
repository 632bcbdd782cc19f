import pytest

from easyvideor1.cli.cache_plan import parse_size, size_words
from easyvideor1.types import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("12 B", 12),
        ("1k", 1024),
        ("100G", 100 * 1024**3),
        ("1.5 TiB", 3 * 1024**4 // 2),
        ("2MB", 2 * 1024**2),
        ("3p", 3 * 1024**5),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1 X", "1e9", "10 GG", "nan"])
def test_other_things_are_not(text):
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1536, "1.50 KiB"),
        (15 * 1024**2, "15.0 MiB"),
        (150 * 1024**3, "150 GiB"),
        (9.6e12, "8.73 TiB"),
        (5e18, "4441 PiB"),
    ],
)
def test_sizes_are_told(size, words):
    assert size_words(size) == words
