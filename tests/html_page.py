"""What a browser would fetch for a page."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = ("meta", "img", "br", "line", "circle", "rect", "polyline", "path", "input")


class Resources(HTMLParser):
    """Collects everything that a browser would fetch, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
