"""Counts decodes of pictures and forwards of ONNX models in every Python process that has this folder on its path.

A process appends one line to the file that ``COUNT_CALLS`` names when it ends; nothing happens without that variable.
A decode is ``full``, or ``reduced`` where the decoder was asked for fewer pixels than the file has.
"""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.machinery
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

COUNTS: Counter[str] = Counter()


def _pillow(module: ModuleType) -> None:
    kind = module.ImageFile
    load, draft = kind.load, kind.draft

    def counted_draft(self: Any, mode: str, size: tuple[int, int] | None) -> Any:
        before = self.size
        found = draft(self, mode, size)
        self.drafted = self.size != before
        return found

    def counted_load(self: Any) -> Any:
        if getattr(self, "tile", None) and getattr(self, "_im", None) is None:
            COUNTS["decode reduced" if getattr(self, "drafted", False) else "decode full"] += 1
        return load(self)

    kind.load, kind.draft = counted_load, counted_draft


def _opencv(module: ModuleType) -> None:
    for name in ("imread", "imdecode"):
        setattr(module, name, _counted(getattr(module, name), module))


def _counted(function: Callable[..., Any], module: ModuleType) -> Callable[..., Any]:
    reduced = {value for name, value in vars(module).items() if name.startswith("IMREAD_REDUCED")}

    def call(*arguments: Any, **named: Any) -> Any:
        flags = named.get("flags", arguments[1] if len(arguments) > 1 else None)
        COUNTS["decode reduced" if flags in reduced else "decode full"] += 1
        return function(*arguments, **named)

    return call


def _onnxruntime(module: ModuleType) -> None:
    run = module.InferenceSession.run

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        COUNTS[f"forward {Path(str(self._model_path)).stem}"] += 1
        return run(self, *arguments, **named)

    module.InferenceSession.run = counted


_PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "PIL.ImageFile": _pillow,
    "cv2": _opencv,
    "onnxruntime.capi.onnxruntime_inference_collection": _onnxruntime,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Patches a module once it is loaded, whoever imports it first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute, patch = spec.loader.exec_module, _PATCHES[name]

        def patched(module: ModuleType) -> None:
            execute(module)
            if name not in done:
                done.add(name)
                patch(module)

        done: set[str] = set()
        spec.loader.exec_module = patched  # type: ignore[method-assign]
        return spec


def _write(file: str) -> None:
    line = (json.dumps(COUNTS) + "\n").encode()
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line)
    os.close(handle)


if os.environ.get("COUNT_CALLS"):
    sys.meta_path.insert(0, _Finder())
    atexit.register(_write, os.environ["COUNT_CALLS"])
