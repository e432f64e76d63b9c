"""Takes files out of their containers and puts them back, so that a mutant passes the container's checksums."""

from __future__ import annotations

import gzip
import random
import zlib
from pathlib import Path

_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzf(content: bytes, block_bytes: int = 0xFF00) -> bytes:
    """The content as a BGZF file (SAM specification 4.1), in blocks of so many bytes of the content."""
    blocks = []
    for at in range(0, len(content), block_bytes):
        part = content[at : at + block_bytes]
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = packer.compress(part) + packer.flush()
        head = bytes.fromhex("1f8b08040000000000ff060042430200") + (len(packed) + 25).to_bytes(2, "little")
        blocks.append(head + packed + zlib.crc32(part).to_bytes(4, "little") + len(part).to_bytes(4, "little"))
    return b"".join(blocks) + _BGZF_END


def unpacked(path: Path) -> bytes:
    """A file's content: of a gzipped or bgzipped file what was compressed."""
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def repacked(path: Path, content: bytes) -> bytes:
    """New content in the container of the file at ``path``."""
    start = path.read_bytes()[:14]
    if start[:2] != b"\x1f\x8b":
        return content
    return bgzf(content, 2_000) if start[12:14] == b"BC" else gzip.compress(content, mtime=0)


def cram_with_mutated_block(dice: random.Random, content: bytes) -> tuple[bytes, str]:
    """A CRAM 3 in which one byte of one block is another, with the block's CRC-32 put right.

    The blocks are found by their own CRC (CRAM specification 3, section 8): there is no need to know the containers.
    """
    blocks = cram_blocks(content)
    start, data, end = dice.choice(blocks)
    at = dice.randrange(start if dice.random() < 0.2 else data, end)
    changed = bytearray(content)
    changed[at] ^= 1 << dice.randrange(8)
    changed[end : end + 4] = zlib.crc32(bytes(changed[start:end])).to_bytes(4, "little")
    return bytes(changed), f"a bit of byte {at}, with the block's CRC put right"


def cram_blocks(content: bytes) -> list[tuple[int, int, int]]:
    """The blocks of a CRAM 3: first byte, first byte of the data, and where the CRC-32 behind the data is."""
    found = []
    at = 26
    while at < len(content) - 12:
        where = at
        method, kind = content[where], content[where + 1]
        if method > 8 or kind > 5:
            at += 1
            continue
        try:
            where += 2
            _, where = _itf8(content, where)
            size, where = _itf8(content, where)
            _, where = _itf8(content, where)
        except IndexError:
            at += 1
            continue
        end = where + size
        if end + 4 <= len(content) and zlib.crc32(content[at:end]) == int.from_bytes(content[end : end + 4], "little"):
            found.append((at, where, end))
            at = end + 4
        else:
            at += 1
    return [block for block in found if block[1] < block[2]]


def _itf8(content: bytes, at: int) -> tuple[int, int]:
    """A number (CRAM specification 2.3), and where the next one begins."""
    first = content[at]
    more = 0
    while more < 4 and first & (0x80 >> more):
        more += 1
    if more == 4:
        rest = content[at + 1 : at + 5]
        return (first & 0x0F) << 28 | int.from_bytes(rest[:3], "big") << 4 | rest[3] & 0x0F, at + 5
    return (first & (0xFF >> (more + 1))) << (8 * more) | int.from_bytes(content[at + 1 : at + 1 + more], "big"), (
        at + 1 + more
    )
