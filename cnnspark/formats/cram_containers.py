"""The headers of a CRAM's containers (CRAM specification 3, section 7): what pysam and htslib do not hand out."""

from __future__ import annotations

from typing import NamedTuple

# The bytes of a file before its first container (section 6), and the start that marks the last one ("EOF", section 9).
DEFINITION_BYTES = 26
_EOF_START = 0x454F46


class ContainerHead(NamedTuple):
    """What is used of a container's header."""

    bytes: int  # of the header
    content_bytes: int  # of the blocks behind it
    start: int
    records: int
    bases: int

    @property
    def is_end(self) -> bool:
        """Whether this is the empty container that ends a file."""
        return self.start == _EOF_START


def container_head(content: bytes, version: int) -> ContainerHead:
    """Reads a container's header.

    Args:
        content: the file's bytes from the container on; 4 KiB are enough.
        version: the CRAM's major version.

    Raises:
        ValueError: if it is not a header.
    """
    numbers = _Numbers(content)
    content_bytes = int.from_bytes(numbers.take(4), "little", signed=True)
    contig_start_span_records = [numbers.number(4) for _ in range(4)]
    wide = 8 if version >= 3 else 4
    _, bases = numbers.number(wide), numbers.number(wide)  # record counter, bases
    numbers.number(4)  # blocks
    for _ in range(numbers.number(4)):  # landmarks
        numbers.number(4)
    if version >= 3:
        numbers.take(4)  # CRC32
    if content_bytes < 0:
        raise ValueError("no container of the file begins where it says")
    return ContainerHead(numbers.at, content_bytes, contig_start_span_records[1], contig_start_span_records[3], bases)


class _Numbers:
    """Numbers of a container's header, one after the other (section 2.3)."""

    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.content):
            raise ValueError("no container of the file begins where it says")
        return self.content[self.at - size : self.at]

    def number(self, most: int) -> int:
        """An ITF8 (``most`` is 4) or LTF8 (8): the first byte's leading ones say how many bytes follow."""
        first = self.take(1)[0]
        more = 0
        while more < most and first & (0x80 >> more):
            more += 1
        value = first & (0xFF >> (more + 1))
        if most == 4 and more == 4:  # of the last byte only four bits count
            rest = self.take(4)
            return (first & 0x0F) << 28 | int.from_bytes(rest[:3], "big") << 4 | rest[3] & 0x0F
        return value << (8 * more) | int.from_bytes(self.take(more), "big")
