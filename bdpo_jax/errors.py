"""What can end a run, and how each kind is told to the user."""

import signal


class UserError(ValueError):
    """Something the user can mend; the message is one sentence: what is wrong, where, what to do."""


class Notice(UserWarning):
    """Something the user should know, and may want to mend; a sentence, too."""


class Damaged(UserError):
    """A checkpoint cannot be read, or is not what was written; the one before it may be."""


class Diverged(UserError):
    """A policy's actions are NaN or infinite."""


class NonFinite(Exception):
    """A number of a run became NaN or infinite."""


class Stopped(Exception):
    """A stop signal, taken at a safe point; `code` is the exit status that batch systems expect."""

    def __init__(self, number: int):
        super().__init__(number)
        self.code = 128 + number

    def __str__(self) -> str:
        return signal.Signals(self.args[0]).name
