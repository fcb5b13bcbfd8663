"""
All errors for users, each with its exit code.

A message says what happened, with the values, then what to do. Codes start at 64, to avoid
those that training scripts use. 75 is reserved for runs that wrote a checkpoint and can be
resumed, 125 to 165 for Docker and signals.
"""

from typing import ClassVar


class SamerunError(Exception):
    """The base class of all errors; never raised itself."""

    exit_code: ClassVar[int] = 64

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n{remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class UsageError(SamerunError):
    """An option, a recipe or a recipe's flag does not exist or is invalid."""

    exit_code = 64


class TagError(SamerunError):
    """W&B would refuse a tag."""

    exit_code = 65


class DataError(SamerunError):
    """``--data`` does not exist, is empty or can't be read."""

    exit_code = 66


class ImageNotFound(SamerunError):
    """The image or the digest is not on this machine."""

    exit_code = 67


class BaseUnavailable(SamerunError):
    """No base image could be pulled or built."""

    exit_code = 68


class EngineMissing(SamerunError):
    """No Docker Engine responds."""

    exit_code = 69


class EngineTooOld(SamerunError):
    """The engine can't build or run the image."""

    exit_code = 70


class BuildFailed(SamerunError):
    """The image could not be built."""

    exit_code = 71


class NoGpu(SamerunError):
    """There are fewer GPUs than requested, or containers can't access them."""

    exit_code = 72


class OutputError(SamerunError):
    """The output folder is not writable, or its disk is full."""

    exit_code = 73


class CodeError(SamerunError):
    """The user's script or its folder can't go into an image."""

    exit_code = 74


class PackageError(SamerunError):
    """The packages that a project asks for can't be added to the image."""

    exit_code = 86


# 75 (EX_TEMPFAIL) is reserved: the run wrote a checkpoint after a signal and can be resumed.


class EngineElsewhere(SamerunError):
    """The engine's containers do not have this machine's files and users."""

    exit_code = 85


class EnginePermission(SamerunError):
    """The engine's socket is not accessible to this user."""

    exit_code = 77


class CudaUnsupported(SamerunError):
    """The NVIDIA driver or the GPU does not support the image's CUDA release."""

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
    """The lock files do not match the requirements, or the image is not the locked one."""

    exit_code = 82


class TransferFailed(SamerunError):
    """An image could not be pushed, pulled, saved or loaded completely."""

    exit_code = 83


class NotReproduced(SamerunError):
    """A rebuild gave a different image."""

    exit_code = 84


class Vulnerable(SamerunError):
    """A locked package has a known vulnerability without an exemption."""

    exit_code = 88


class NotAudited(SamerunError):
    """The vulnerability service could not be reached, so the result is unknown."""

    exit_code = 89


class LicenseUnknown(SamerunError):
    """A package in the image declares no license."""

    exit_code = 90


class WithinTolerance(SamerunError):
    """A reproduced run differs, within the given tolerance."""

    exit_code = 93


class Different(SamerunError):
    """A reproduced run differs."""

    exit_code = 94


class Irreproducible(SamerunError):
    """A run can't be reproduced: image, code or data is missing."""

    exit_code = 95


class RunBusy(SamerunError):
    """The run is still in progress, or another command has locked it."""

    exit_code = 96


class SyncIncomplete(SamerunError):
    """W&B's server does not have everything that the run recorded."""

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
    """The cloud engine has no accelerator with this name."""

    exit_code = 101


class NoCredentials(SamerunError):
    """The cloud engine has no access to any cloud or cluster."""

    exit_code = 102


class CloudEngineMissing(SamerunError):
    """The command of the cloud engine is not installed."""

    exit_code = 103


class WrongImage(SamerunError):
    """The container's image is not the expected one."""

    exit_code = 104


class NodeLost(SamerunError):
    """A node was lost, and the job may not continue without it."""

    exit_code = 105


class ResumeError(SamerunError):
    """A checkpoint does not match the training that should resume from it."""

    exit_code = 110


class NotFinite(SamerunError):
    """The loss is not a finite number, and ``--stop-on-nan`` was given."""

    exit_code = 111


class OutOfMemory(SamerunError):
    """The training needed more memory than the GPU or the machine has."""

    exit_code = 112


class GpuFailed(SamerunError):
    """A GPU failed while the training computed on it."""

    exit_code = 113


class CommunicationFailed(SamerunError):
    """The processes of a training could not exchange data, and none of them names a cause."""

    exit_code = 114


class SharedMemoryFull(SamerunError):
    """Loader workers or NCCL needed more shared memory than the container has."""

    exit_code = 115
