"""One exception hierarchy. Every error says what is wrong and what to do next."""

from __future__ import annotations

import difflib
import errno
import functools
from collections.abc import Iterable
from typing import Any


class LikenessError(Exception):
    """Base of every error a user can mend. ``remedy`` is one imperative sentence."""

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process hands its error to its parent whole."""
        return functools.partial(type(self), remedy=self.remedy), (self.problem,)

    def __str__(self) -> str:
        return f"{self.problem}\n  what to do: {self.remedy}"


class ConfigError(LikenessError):
    """A params file, section, key or value is not what the step expects."""


class UnknownNameError(ConfigError):
    """A recipe, reward, source or other registered name does not exist."""


class DuplicateNameError(ConfigError):
    """Two modules register the same name on one plug-point."""


class InputError(LikenessError):
    """An input path is missing, unreadable, or not the artefact the port asks for."""


class PackError(InputError):
    """A face pack is missing or incomplete."""


class DataContractError(LikenessError):
    """A data set breaks its great_expectations suite."""


class StorageError(LikenessError):
    """The disk is full, read-only or otherwise refuses to hold the result."""


class GateRefusedError(LikenessError):
    """A model was put forward for registration without a passed decision about exactly that model."""


class TrainingError(LikenessError):
    """Training cannot go on: a non-finite loss, gradient or reward, or a checkpoint of other processes."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt ``name``: the nearest known names, or all of them."""
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    return f"use one of: {', '.join(options) or 'none registered'}"


def storage_error(error: OSError, doing: str) -> StorageError:
    """Translate an OSError met while ``doing`` something into a message with a remedy."""
    remedies = {
        errno.ENOSPC: "free some space (dvc gc -w removes unused cache entries) and run the same command again",
        errno.EDQUOT: "raise the quota or free some space, then run the same command again",
        errno.EROFS: "choose a writable output folder",
        errno.EACCES: "fix the permissions of that folder, or choose another",
    }
    remedy = remedies.get(error.errno or 0, "check the disk, then run the same command again")
    where = f" ({error.filename})" if error.filename else ""
    return StorageError(f"cannot finish {doing}: {error.strerror or error}{where}", remedy=remedy)
