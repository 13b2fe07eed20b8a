"""Plug-points: techniques found by name, built in or brought by an installed package's entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from likeness.core.errors import DuplicateNameError, UnknownNameError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to objects on one plug-point.

    Built-in modules are named at construction and imported at the first look-up, so neither import order nor
    importing heavy libraries matters; ``package.*`` stands for every module of that package. Other packages add theirs
    through the entry-point group ``likeness.KIND``.
    """

    def __init__(self, kind: str, builtin: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._builtin = builtin
        self._items: dict[str, tuple[T, str]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds an object under ``name``.

        Raises:
            DuplicateNameError: another module already holds the name; both are named.
        """

        def add(item: T) -> T:
            module = str(getattr(item, "__module__", type(item).__module__))
            self.add(name, item, module)
            return item

        return add

    def add(self, name: str, item: T, module: str) -> None:
        """Add ``item``, which ``module`` defines, under ``name``."""
        if name in self._items and self._items[name][1] != module:
            other = self._items[name][1]
            raise DuplicateNameError(
                f"{self.kind} '{name}' is registered by both {other} and {module}",
                remedy=f"rename one of them, or uninstall the package that brings {module}",
            )
        self._items[name] = (item, module)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for name in self._builtin:
            package = import_module(name.removesuffix(".*"))
            if name.endswith(".*"):
                for found in iter_modules(package.__path__, f"{package.__name__}."):
                    import_module(found.name)
        for point in entry_points(group=f"likeness.{self.kind}"):
            self.add(point.name, point.load(), point.value.partition(":")[0])

    def get(self, name: str) -> T:
        """The object of that name.

        Raises:
            UnknownNameError: with the nearest names.
        """
        self._load()
        if name not in self._items:
            raise UnknownNameError(f"there is no {self.kind} '{name}'", remedy=did_you_mean(name, self._items))
        return self._items[name][0]

    def module(self, name: str) -> str:
        """The module that defines the object of that name."""
        self.get(name)
        return self._items[name][1]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._items))
