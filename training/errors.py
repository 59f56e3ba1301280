"""The expected failures of the training room, below HemmaError.

HemmaError
`- TrainingError 1                 training could not start, or could not go on
   |- NoRoom                       a checkpoint or log does not fit on the disk; names the bytes it needs
   |- NotFinite                    NaN or an infinity in loss, gradient or weights (S11-R22)
   |- CheckpointBroken             no checkpoint is whole, or the one that was asked for is not (S11-R15)
   `- ArgumentsRefused             arguments that the installed trainer would not take (S11-R21)
"""

from __future__ import annotations

from manifests.commands import command
from manifests.errors import HemmaError


class TrainingError(HemmaError):
    """Training could not start or could not go on; what was saved before is still there."""

    code = "training"


class NoRoom(TrainingError):
    """The disk has no room for what must be written; `needed_bytes` is how much it takes, `free_bytes` what there is."""

    code = "disk-full"

    def __init__(self, what: str, folder: str, *, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"No space left on device: {what} needs {needed_bytes} bytes in {folder}, {free_bytes} are free",
            remedy=command(
                "free {} bytes there (df -h {}), then hemma train --resume", max(needed_bytes - free_bytes, 0), folder
            ),
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class NotFinite(TrainingError):
    """A NaN or an infinity where training must have numbers; `where` says in what."""

    code = "nan-loss"

    def __init__(self, where: str, step: int, value: str) -> None:
        # "diverged" is what the classifier of failures knows it by (lanes/failures.py).
        fact = f"training diverged: {where} is {value} at step {step}"
        super().__init__(fact, remedy="lower the learning rate (x 0.1) and resume")
        self.where = where
        self.step = step


class CheckpointBroken(TrainingError):
    """A checkpoint cannot be resumed from; the message lists what is wrong with it."""

    code = "corrupt-checkpoint"


class ArgumentsRefused(TrainingError):
    """The installed trainer would not take these arguments; the message names each and its successor."""

    code = "wrong-trainer-argument"
