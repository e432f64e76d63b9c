"""Changes to bytes and to lines of text, each drawn with a generator of random numbers that decides all of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Mutation = Callable[[random.Random, bytes], bytes]

HOSTILE = (
    *(b"", b".", b"-1", b"0", b"00", b"+5", b"1_000", b"0x10", b"2147483647", b"2147483648", b"99999999999999999999"),
    *(b"1e400", b"-1e-400", b"nan", b"-inf", b"1,2,3", b"1;2", b"=", b";", b",", b":", b"|", b"/", b"*", b"<", b"<X>"),
    *(
        b"\0",
        b"a\0b",
        b"\xff\xfe",
        b"\xb2",
        "\u00dcn\u00ef\u0661".encode(),
        b"\xef\xbb\xbf",
        b"\r",
        b"\x0b",
        b"\x1b[31m",
    ),
    *(b" ", b"%s%n", b"{0}", b"'", b'"', b'"unfinished', b"<script>alert(1)</script>", b"../../x", b"`id`", b"$(id)"),
    *(
        b"PASS",
        b"END=5",
        b"#",
        b"##",
        b"#CHROM",
        b"chr1",
        b"c1",
        b"N",
        b"acgt",
        b"C,C",
        b"0/1",
        b"./.",
        b"7/9",
        b"0|1|1",
    ),
    *(b"A" * 70_000, b"1" * 400, b"1," * 3_000, b"x" * 300),
)


def _stretch(dice: random.Random, content: bytes, most: int | None = None) -> tuple[int, int]:
    """A stretch to change; short ones are as likely as long ones."""
    limit = max(1, min(len(content), most or len(content)))
    size = min(limit, int(2 ** dice.uniform(0, limit.bit_length())))
    at = dice.randrange(max(1, len(content) - size + 1))
    return at, at + size


def flip_bit(dice: random.Random, content: bytes) -> bytes:
    at = dice.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << dice.randrange(8))]) + content[at + 1 :]


def set_byte(dice: random.Random, content: bytes) -> bytes:
    at = dice.randrange(len(content))
    value = dice.choice((0, 9, 10, 13, 32, 34, 45, 48, 127, 128, 255, dice.randrange(256)))
    return content[:at] + bytes([value]) + content[at + 1 :]


def set_number(dice: random.Random, content: bytes) -> bytes:
    """Another little-endian number of four bytes: what counts and offsets of binary formats are."""
    at = dice.randrange(max(1, len(content) - 4))
    value = dice.choice((0, 1, 2, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000, 1 << dice.randrange(32)))
    return content[:at] + value.to_bytes(4, "little") + content[at + 4 :]


def cut(dice: random.Random, content: bytes) -> bytes:
    return content[: dice.choice((dice.randrange(len(content)), max(0, len(content) - dice.randrange(1, 40))))]


def delete_stretch(dice: random.Random, content: bytes) -> bytes:
    start, end = _stretch(dice, content)
    return content[:start] + content[end:]


def double_stretch(dice: random.Random, content: bytes) -> bytes:
    start, end = _stretch(dice, content)
    return content[:end] + content[start:]


def move_stretch(dice: random.Random, content: bytes) -> bytes:
    start, end = _stretch(dice, content)
    rest = content[:start] + content[end:]
    at = dice.randrange(len(rest) + 1)
    return rest[:at] + content[start:end] + rest[at:]


def clear_stretch(dice: random.Random, content: bytes) -> bytes:
    start, end = _stretch(dice, content, 4_096)
    return content[:start] + bytes([dice.choice((0, 255))]) * (end - start) + content[end:]


def insert_noise(dice: random.Random, content: bytes) -> bytes:
    at = dice.randrange(len(content) + 1)
    return content[:at] + dice.randbytes(dice.choice((1, 2, 4, 8, 100))) + content[at:]


def _chosen_line(dice: random.Random, lines: list[bytes]) -> int:
    """A record more often than a line of the header."""
    records = [number for number, line in enumerate(lines) if line and not line.startswith(b"#")]
    return dice.choice(records) if records and dice.random() < 0.7 else dice.randrange(len(lines))


def swap_lines(dice: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    one, other = _chosen_line(dice, lines), _chosen_line(dice, lines)
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def drop_line(dice: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    del lines[_chosen_line(dice, lines)]
    return b"\n".join(lines)


def double_line(dice: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = _chosen_line(dice, lines)
    lines.insert(dice.choice((at, at + 1, dice.randrange(len(lines)))), lines[at])
    return b"\n".join(lines)


def empty_line(dice: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    lines.insert(_chosen_line(dice, lines), dice.choice((b"", b"\r", b" ", b"\t", b"\0")))
    return b"\n".join(lines)


def windows_lines(dice: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    one = dice.choice((None, _chosen_line(dice, lines)))
    return b"\n".join(line + b"\r" if line and one in (None, number) else line for number, line in enumerate(lines))


def byte_order_mark(dice: random.Random, content: bytes) -> bytes:
    return dice.choice((b"\xef\xbb\xbf", b"\xff\xfe")) + content


def hostile_field(dice: random.Random, content: bytes) -> bytes:
    """One field of a line, or a part of one, becomes a hostile one."""
    lines = content.split(b"\n")
    at = _chosen_line(dice, lines)
    separators = [s for s in (b"\t", b",", b";", b":", b"=", b'"', b" ") if s in lines[at]] or [b"\t"]
    separator = b"\t" if b"\t" in separators and dice.random() < 0.6 else dice.choice(separators)
    fields = lines[at].split(separator)
    fields[dice.randrange(len(fields))] = dice.choice(HOSTILE)
    lines[at] = separator.join(fields)
    return b"\n".join(lines)


def other_columns(dice: random.Random, content: bytes) -> bytes:
    """A column more or less in one line, or two of its columns in each other's place."""
    lines = content.split(b"\n")
    at = _chosen_line(dice, lines)
    fields = lines[at].split(b"\t")
    one, other = dice.randrange(len(fields)), dice.randrange(len(fields))
    what = dice.randrange(3)
    if what == 0:
        del fields[one]
    elif what == 1:
        fields.insert(one, fields[other])
    else:
        fields[one], fields[other] = fields[other], fields[one]
    lines[at] = b"\t".join(fields)
    return b"\n".join(lines)


BYTES: tuple[Mutation, ...] = (
    *(flip_bit, flip_bit, set_byte, set_number, set_number, cut, delete_stretch, double_stretch, move_stretch),
    *(clear_stretch, insert_noise),
)
LINES: tuple[Mutation, ...] = (
    *(hostile_field, hostile_field, hostile_field, hostile_field, other_columns, swap_lines, drop_line, double_line),
    *(empty_line, windows_lines, byte_order_mark, set_byte, flip_bit, cut, delete_stretch, double_stretch),
)


def mutated(dice: random.Random, content: bytes, mutations: tuple[Mutation, ...]) -> tuple[bytes, str]:
    """The content after one mutation, seldom two, and their names; never the content itself."""
    changed, names = content, []
    for _ in range(20):
        mutation = dice.choice(mutations)
        changed = mutation(dice, changed) if changed else content
        names.append(mutation.__name__)
        if changed != content and dice.random() < 0.85:
            break
    return changed, " and ".join(names)


def hostile_json(dice: random.Random, content: bytes) -> bytes:
    """One value of a JSON document becomes another, or is missing; a document that is not JSON gets another byte."""
    try:
        document = json.loads(content)
    except ValueError:
        return set_byte(dice, content)
    places: list[tuple[Any, Any]] = []
    _collect_places(document, places)
    if not places:
        return set_byte(dice, content)
    holder, key = dice.choice(places)
    if dice.random() < 0.15:
        del holder[key]
    else:
        values = (None, [], {}, "", "x" * 999, "../../x", -1, 0, 2**63, 1e308, float("nan"), True, [[]], {"a": 1}, "\0")
        holder[key] = dice.choice(values)
    return json.dumps(document).encode()


def _collect_places(value: Any, places: list[tuple[Any, Any]]) -> None:
    """Each place of a document that holds a value: the object or list, and the key."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    # Of a list of a thousand numbers the first say enough.
    for key in keys[:40]:
        places.append((value, key))
        _collect_places(value[key], places)


JSON: tuple[Mutation, ...] = (hostile_json, hostile_json, hostile_json, set_byte, cut, delete_stretch, double_stretch)
