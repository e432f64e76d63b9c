"""The reference genome as letters and as base codes; reads and haplotypes use the same codes."""

from __future__ import annotations

import numpy as np
import pysam

from cnnspark.errors import InputError
from cnnspark.formats.htslib import FASTA_BLOCK_INDEXES, FASTA_INDEXES, fetched_index, for_htslib

# Codes of a base in every uint8 tensor (docs/formats.md): 0 is nothing, 5 any other letter, 6 a gap.
NOTHING, A, C, G, T, OTHER, GAP = range(7)

# ASCII -> code: lower case (soft-masked) is read as upper case, every other IUPAC letter is OTHER.
CODE_OF_ASCII = np.full(256, OTHER, dtype=np.uint8)
for _letter, _code in zip("ACGTacgt", (A, C, G, T, A, C, G, T), strict=True):
    CODE_OF_ASCII[ord(_letter)] = _code
LETTER_OF_CODE = ".ACGTN-"


def encode_bases(sequence: str) -> np.ndarray:
    """Base codes of a sequence: uint8 (len(sequence),).

    Raises:
        UnicodeEncodeError: if the sequence is not ASCII.
    """
    return CODE_OF_ASCII[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]


class ReferenceSource:
    """An indexed FASTA (``.fai``, and ``.gzi`` if bgzipped), a path or a URL. Open it inside the task.

    Attributes:
        path: as given.
        lengths: length of each contig in bases, in the order of the file.
    """

    def __init__(self, path: str):
        """Opens the FASTA.

        Raises:
            InputError: if the file or its index cannot be opened; the message has a remedy.
        """
        self.path = path
        try:
            with (
                fetched_index(path, FASTA_INDEXES) as index,
                fetched_index(path, FASTA_BLOCK_INDEXES, required=False) as blocks,
            ):
                self._file = pysam.FastaFile(for_htslib(path), filepath_index=index, filepath_index_compressed=blocks)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be opened as an indexed FASTA ({error}); run 'samtools faidx {path}'"
            ) from None
        self.lengths: dict[str, int] = dict(zip(self._file.references, self._file.lengths, strict=True))

    def sequence(self, contig: str, start: int, end: int) -> str:
        """The letters of [start, end), upper case, cut at the contig's ends.

        Raises:
            InputError: if the contig is unknown, or the file is damaged.
        """
        if contig not in self.lengths:
            raise InputError(f"{self.path} has no contig '{contig}'; give the reference that the callset was made with")
        start, end = max(0, start), min(end, self.lengths[contig])
        if end <= start:
            return ""
        try:
            letters = self._file.fetch(contig, start, end).upper()
            if len(letters) != end - start or not letters.isascii():
                raise ValueError(f"{len(letters)} bases are there")
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.path} cannot be read at {contig}:{start + 1}-{end} ({error}); the file is damaged, or its .fai "
                "is of another file: copy it again, or run 'samtools faidx' on it"
            ) from None
        return letters

    def letters(self, contig: str, start: int, end: int) -> str:
        """The letters of [start, end), upper case, with a blank for each position off the contig.

        Raises:
            InputError: if the contig is unknown.
        """
        inside = self.sequence(contig, start, end)
        return (" " * min(max(-start, 0), end - start) + inside).ljust(end - start)

    def codes(self, contig: str, start: int, end: int) -> np.ndarray:
        """Base codes of [start, end): uint8 (end - start,), NOTHING beyond the contig's ends.

        Raises:
            InputError: if the contig is unknown.
        """
        codes = np.zeros(end - start, dtype=np.uint8)
        inside = encode_bases(self.sequence(contig, start, end))
        offset = max(0, -start)
        codes[offset : offset + len(inside)] = inside
        return codes

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
