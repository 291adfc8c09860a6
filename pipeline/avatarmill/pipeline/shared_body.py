"""The body of a process: all stages read the same one, and none changes it."""

from functools import cache

from avatarmill.avatar.body import Body, load_body


@cache
def shared_body() -> Body:
    """The free body of the package, loaded once."""
    return load_body()
