"""What a user should meet when something is wrong: a sentence that names the thing and the remedy."""


class ThesisError(Exception):
    """Something the user can mend: a parameter, a folder, a picture, a full disk."""


class ThesisWarning(UserWarning):
    """Something the user should know although the work goes on; `thesis run` repeats it."""
