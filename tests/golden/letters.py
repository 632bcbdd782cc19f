"""What the golden run brings along as a user's own module: a part of its reward."""


def share(sample, response):
    """Share of small letters among the characters of a response."""
    return sum("a" <= letter <= "z" for letter in response) / max(len(response), 1)
