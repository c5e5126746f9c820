"""The error that every reader and generator of the course raises."""


class DataError(ValueError):
    """Data that cannot be used. The message names the file, says what is wrong with it and what to do."""
