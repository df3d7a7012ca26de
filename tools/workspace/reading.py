"""The tool `read_file`: text with line numbers, what is in a folder, an image as an image.

One call reads one file of bounded size and shows a bounded part of it. What is no text is told as what it is: a model
that gets the bytes of a program as text learns nothing from them and pays for each. An image that is cut off is not
given as one: a provider that refuses it refuses every later request of the conversation too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ...agents import ToolFailed
from ...agents.tool_results import MOST_IMAGE
from ...providers import image
from .paths import Refused, read_path, shown
from .root import Entry, Root
from .texts import read_content, show_lines

#: Names that are shown of a folder.
MOST_ENTRIES = 500

#: The first bytes of the images that models take.
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def read_file_in(root: Root, path: str, most: int) -> Callable[..., Any]:
    """The function of the tool.

    Args:
        root: the folder.
        path: its absolute path.
        most: bytes of a file that is read.
    """
    folder = path

    def read_file(
        path: str,
        first: Annotated[int, msgspec.Meta(ge=1)] | None = None,
        last: Annotated[int, msgspec.Meta(ge=1)] | None = None,
    ) -> Any:
        """Read a file of the workspace: text with line numbers, or an image. Of a folder, what is in it.

        Args:
            path: the path from the folder of the workspace, '.' for that folder.
            first: the first line to show, from 1.
            last: the last line to show.
        """
        try:
            names = read_path(path, folder)
            if root.is_folder(names):
                return list_folder(root, names)
            data, _ = root.read(names, most)
            kind = image_type(data)
            if kind is not None and not is_whole(data, kind):
                raise Refused(
                    f"it begins as {kind}, and is cut off or damaged: {len(data):,} bytes", shown("/".join(names))
                )
            if kind is not None and len(data) <= MOST_IMAGE:
                return [
                    f"{shown('/'.join(names))}: an image, {kind}, {len(data):,} bytes",
                    image(data, media_type=kind),
                ]
            try:
                return show_lines(read_content(data).text, first, last)
            except Refused as error:
                raise Refused(error.reason, shown("/".join(names))) from None
        except Refused as error:
            raise ToolFailed(str(error)) from None

    return read_file


def list_folder(root: Root, names: tuple[str, ...]) -> str:
    """What is in a folder, a line for each."""
    entries, count = root.entries(names, MOST_ENTRIES)
    if not entries:
        return "[it is empty]"
    lines = [_line(entry) for entry in entries]
    if count > len(entries):
        lines.append(f"[{count - len(entries)} more]")
    return "\n".join(lines)


def _line(entry: Entry) -> str:
    name = entry.name if entry.name.isprintable() else shown(entry.name)
    if entry.kind == "file":
        return f"{name}  {entry.size:,} bytes"
    if entry.kind == "folder":
        return f"{name}/"
    return f"{name}  [a symbolic link, not followed]" if entry.kind == "link" else f"{name}  [no ordinary file]"


def image_type(data: bytes) -> str | None:
    """The media type of an image that models take, by how it begins; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for begin, kind in _IMAGES if data.startswith(begin)), None)


def is_whole(data: bytes, kind: str) -> bool:
    """Whether an image goes on to where such images end."""
    if kind == "image/png":
        return data[12:16] == b"IHDR" and b"IEND" in data
    if kind == "image/jpeg":
        return b"\xff\xd9" in data
    if kind == "image/gif":
        return b";" in data[13:]
    return int.from_bytes(data[4:8], "little") + 8 <= len(data)
