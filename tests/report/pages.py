"""A page taken apart: its elements, its words, and what it refers to."""

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = ("meta", "link", "br", "img", "input", "hr")
INLINE = ("span", "strong", "a", "code")
REFERENCES = ("src", "href", "srcset", "action", "poster", "data", "xlink:href", "background")


class Page(HTMLParser):
    """Parsed once; raises AssertionError where elements do not close in the order in which they were opened."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.separate(tag)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self.separate(tag)
        assert self.open.pop() == tag, f"</{tag}> in line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        (self.styles if self.open and self.open[-1] == "style" else self.texts).append(data)

    def separate(self, tag: str) -> None:
        if tag not in INLINE:
            self.texts.append(" ")

    @property
    def text(self) -> str:
        """What is read, with single spaces."""
        return " ".join("".join(self.texts).split())

    def all(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        """The attributes of the elements `tag`, those of the class `kind` only where it is given."""
        return [held for name, held in self.elements if name == tag and (not kind or kind in held.get("class", ""))]

    def references(self) -> list[str]:
        """Everything that a browser could fetch or go to, from attributes and styles."""
        found = [held[name] for _, held in self.elements for name in REFERENCES if name in held]
        styles = [*self.styles, *(held["style"] for _, held in self.elements if "style" in held)]
        return found + [match for style in styles for match in re.findall(r"url\([^)]*\)|@import\s*\S+", style)]
