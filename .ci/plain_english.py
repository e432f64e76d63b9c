"""Fails on phrases that a reader has to read twice, in comments, docstrings, messages and documents.

    python .ci/plain_english.py [FILE or FOLDER ...]

Each phrase stands here with what to write instead. The list grows whenever a newcomer stumbles.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("cnnspark", "jobs", "benchmarks", "tests", "docs", "conf", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
# pattern -> what to write instead
PHRASES = {
    r"where there (is|are|was|were) (none|no\b)": "'if there is no ...', or 'without ...'",
    r"where (it|that|one|this) (is|was) none": "'if ... is missing'",
    r"\b(that|which|one|it|loss|line) (is|are) none\b": "'is not a ...', 'invalid'",
    r"\bof such\b": "name the things again",
    r"\bbut for\b": "'except'",
    r"\b(,\s)?too[.,;:)]": "'also', earlier in the sentence",
    r"\bas of\b": "'from', 'since', 'like that of'",
    r"\blies? elsewhere\b": "'is distributed differently'",
    r"\b(values|inputs?|annotations|features|scores|they|it) (lie|lies|lay)\b": "'are distributed', 'are', 'stand'",
    r"\bcome[s]? to (be|nothing|the same)\b|\bhas come to\b|\bwhat came of\b": "'is', 'the result of'",
    r"\b(let|lets) go\b": "'release'",
    r"\bby turns\b": "'alternately'",
    r"\bin the mean\b": "'on average'",
    r"\bwhose turn\b": "'who has to act'",
    r"\bof (its|their|his) own accord\b": "'by itself'",
    r"\bno more than that\b": "say what it does",
    r"\bis worth a\b": "say what to do",
    r"\bsuch as the training\b": "'as in the training data'",
    r"\ba little kind\b": "'slightly optimistic'",
    r"\bin its own good time\b": "'slowly'",
    r"\bis to be said\b|\bto be had\b": "use an active verb",
    r"\bthat is meant\b": "say which one",
    r"(?<!\w)Pure\.(?!\w)": "'No Spark, no TensorFlow.'",
    r"\bat hand\b": "'available'",
    r"\bfor good\b": "'permanently', 'really'",
    r"\bonce more than\b|\bthrice\b|\bwhence\b|\bthereof\b|\bwhereof\b": "a plainer word",
    r"\bnext to nothing\b": "'almost nothing'",
    r"\bnone of (GATK's|its own|ours)\b": "'not one of ...'",
}
PATTERNS = [
    (re.compile(pattern, re.IGNORECASE if pattern[0] != "(" else 0), better) for pattern, better in PHRASES.items()
]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and lines that a person reads: all of a document, comments and strings of a Python file."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(content.splitlines(), 1)
        return
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type in kinds:
            yield from enumerate(token.string.splitlines(), token.start[0])


def complaints(path: Path) -> Iterator[str]:
    """One line for each phrase found: place, phrase, what to write instead."""
    for number, line in texts(path):
        for pattern, better in PATTERNS:
            if found := pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: '{found[0].strip()}': {better}"


def main(arguments: list[str]) -> int:
    """Checks the named files and folders, or the whole project; returns 1 if a phrase was found."""
    found = []
    for name in arguments or PLACES:
        place = ROOT / name
        files = sorted(p for p in place.rglob("*") if p.suffix in (".py", ".md")) if place.is_dir() else [place]
        for path in files:
            if path.exists():
                found += complaints(path.resolve())
    print("\n".join(found) if found else "plain English: no phrase of the list found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
