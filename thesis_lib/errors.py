"""The one exception a user should meet: a sentence that names the thing and the remedy."""


class ThesisError(Exception):
    """Something the user can mend: a parameter, a folder, a picture, a full disk."""
