"""
Every error that a user can meet, each with its exit code and its remedy.

A message says what happened, with the values, then what to do. Codes lie from 64
up, out of the way of what training scripts use themselves; 75 is reserved for
"checkpointed, start me again", and 125 to 165 for what Docker and signals use.
"""

from typing import ClassVar


class SamerunError(Exception):
    """The base of all; never raised itself."""

    exit_code: ClassVar[int] = 64

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n{remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class UsageError(SamerunError):
    """An option, a recipe or a recipe's flag that does not exist or does not fit."""

    exit_code = 64


class TagError(SamerunError):
    """A W&B tag that W&B would refuse."""

    exit_code = 65


class DataError(SamerunError):
    """``--data`` does not exist, is empty or can't be read."""

    exit_code = 66


class ImageNotFound(SamerunError):
    """The image or the digest is not on this machine."""

    exit_code = 67


class BaseUnavailable(SamerunError):
    """Neither a registry nor Debian's packages gave a base image."""

    exit_code = 68


class EngineMissing(SamerunError):
    """No Docker Engine answers."""

    exit_code = 69


class EngineTooOld(SamerunError):
    """The engine can't build or run the image."""

    exit_code = 70


class BuildFailed(SamerunError):
    """The image could not be built."""

    exit_code = 71


class NoGpu(SamerunError):
    """Fewer GPUs than asked for, or a container can't reach them."""

    exit_code = 72


class OutputError(SamerunError):
    """The output folder can't be written, or its disk is full."""

    exit_code = 73


class CodeError(SamerunError):
    """The user's script or its folder can't go into an image."""

    exit_code = 74


# 75 (EX_TEMPFAIL) is the run's own: "checkpointed after a signal, start me again".


class EnginePermission(SamerunError):
    """The engine's socket may not be used by this user."""

    exit_code = 77


class DriverTooOld(SamerunError):
    """The NVIDIA driver or the GPU does not serve the image's CUDA."""

    exit_code = 78


class KeyFileError(SamerunError):
    """The file with the W&B key can't be read or holds no key."""

    exit_code = 79


class SetupFailed(SamerunError):
    """The machine could not be set up."""

    exit_code = 80


class RecordError(SamerunError):
    """A run's record is missing, damaged or from a newer version."""

    exit_code = 81


class LockStale(SamerunError):
    """The locks were made for other requirements, or the image is not the locked one."""

    exit_code = 82


class TransferFailed(SamerunError):
    """An image could not be pushed, pulled, saved or loaded whole."""

    exit_code = 83


class NotReproduced(SamerunError):
    """A rebuild gave another image."""

    exit_code = 84


class Vulnerable(SamerunError):
    """A locked package has a known vulnerability that is not let pass."""

    exit_code = 88


class NotAudited(SamerunError):
    """Nobody could be asked for vulnerabilities: nothing is known, good or bad."""

    exit_code = 89


class LicenseUnknown(SamerunError):
    """A package of the image names no license."""

    exit_code = 90


class WithinTolerance(SamerunError):
    """A reproduced run differs in its bits, and stays within the given tolerance."""

    exit_code = 93


class Different(SamerunError):
    """A reproduced run came out different."""

    exit_code = 94


class Irreproducible(SamerunError):
    """A run can't be made again: its image, code or data is not to be had."""

    exit_code = 95


class RunBusy(SamerunError):
    """The run is still going on, or another command holds it."""

    exit_code = 96


class SyncIncomplete(SamerunError):
    """W&B's server does not have all that the run recorded."""

    exit_code = 97


class NodesDisagree(SamerunError):
    """The nodes of one training differ in image, command, seed, topology or data."""

    exit_code = 98


class RendezvousFailed(SamerunError):
    """The nodes of one training did not meet in time."""

    exit_code = 99


class NotPullable(SamerunError):
    """No registry serves the image to other machines."""

    exit_code = 100


class UnknownAccelerator(SamerunError):
    """The cloud's engine knows no accelerator of this name."""

    exit_code = 101


class NoCredentials(SamerunError):
    """The cloud's engine has no access to any cloud or cluster."""

    exit_code = 102


class CloudEngineMissing(SamerunError):
    """The command of the cloud's engine is not installed."""

    exit_code = 103


class WrongImage(SamerunError):
    """The container runs another image than the one that it was told to be."""

    exit_code = 104


class NodeLost(SamerunError):
    """A node of the training went away, and the job was not to go on without it."""

    exit_code = 105


class ResumeError(SamerunError):
    """A checkpoint does not fit the training that is to go on from it."""

    exit_code = 110


class NotFinite(SamerunError):
    """The loss is not a finite number, and ``--stop-on-nan`` was given."""

    exit_code = 111


class OutOfMemory(SamerunError):
    """The training needed more memory, of GPU or machine, than there is."""

    exit_code = 112
