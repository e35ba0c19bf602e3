"""The one exception for a user's mistake, shared by both stages."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used: the message is one line that names the file, video
    or key, says what was wanted and what to do. Programs print it and exit with code 2."""
