"""The intact inputs whose mutants are tried: one small sample in every format that cnnspark reads."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pysam
import pysam.bcftools

from cnnspark.models.bundle_files import bundle_folder
from tests.support.fuzzing.containers import bgzf

SAMPLE = "S1"
# The first has three windows of an index, the second shares its blocks of the files.
CONTIGS = {"c1": 40_000, "c2": 6_000}
READ_BASES, READS_AT_ONE = 80, 12
LINE_BASES = 60
MODEL = "model"
HEADER = [
    "##fileformat=VCFv4.2",
    '##FILTER=<ID=LowQual,Description="Low, \\"very\\" low">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">',
    '##INFO=<ID=QD,Number=1,Type=Float,Description="Quality by depth">',
    '##INFO=<ID=DB,Number=0,Type=Flag,Description="Known">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="End">',
    '##INFO=<ID=CNN_1D,Number=1,Type=Float,Description="A score">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Depth of each allele">',
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">',
    *(f"##contig=<ID={name},length={length}>" for name, length in CONTIGS.items()),
    "##source=caller M\u00fcller",
]


@dataclass(frozen=True)
class Site:
    """One record: 0-based start, its alleles, and whether reads carry the first ALT."""

    contig: str
    start: int
    ref: str
    alts: tuple[str, ...]
    real: bool

    def line(self, number: int) -> str:
        """The record as text."""
        genotype = "0/1" if self.real else "0/0" if number % 5 == 4 else "1/2" if len(self.alts) > 1 else "0/1"
        depths = ",".join(["6"] * (len(self.alts) + 1))
        info = f"DP=12;QD={number % 7 + 0.25};CNN_1D={number / 8 - 1:.4f}" + (";DB" if number % 3 == 0 else "")
        fields = (self.contig, self.start + 1, f"rs{number}" if number % 3 == 0 else ".", self.ref)
        rest = (",".join(self.alts), f"{10 + 7 * (number % 9)}.5", ("PASS", ".", "LowQual")[number % 3], info)
        return "\t".join(map(str, [*fields, *rest, "GT:AD:GQ", f"{genotype}:{depths}:{20 + number}"]))


def make_inputs(folder: Path) -> Path:
    """Writes the sample into a new folder; the same bytes each time."""
    folder.mkdir(parents=True)
    dice = random.Random("the genome")
    genome = {name: "".join(dice.choices("ACGT", k=length)) for name, length in CONTIGS.items()}
    _write_fasta(folder, genome)
    sites = _sites(dice, genome)
    _write_callsets(folder, sites)
    _write_reads(folder, dice, genome, sites)
    _write_truth(folder, sites)
    shutil.copytree(bundle_folder("bundled:features"), folder / MODEL)
    (folder / "sheet.tsv").write_text(f"sample\tvcf\treads\n{SAMPLE}\tc.vcf.gz\tr.bam\n")
    return folder


def _write_fasta(folder: Path, genome: dict[str, str]) -> None:
    lines = []
    for name, bases in genome.items():
        lines += [f">{name} made up", *(bases[at : at + LINE_BASES] for at in range(0, len(bases), LINE_BASES))]
    text = "\n".join(lines) + "\n"
    (folder / "ref.fa").write_text(text)
    pysam.faidx(str(folder / "ref.fa"))
    # Small blocks, so that the .gzi has many lines.
    (folder / "z.fa.gz").write_bytes(bgzf(text.encode(), 5_000))
    pysam.faidx(str(folder / "z.fa.gz"))


def _sites(dice: random.Random, genome: dict[str, str]) -> list[Site]:
    starts = [("c1", start) for start in range(700, 40_000, 2_700)] + [
        ("c2", start) for start in range(900, 6_000, 900)
    ]
    sites = []
    for number, (contig, start) in enumerate(starts):
        bases = genome[contig]
        ref = bases[start]
        others = [base for base in "ACGT" if base != ref]
        dice.shuffle(others)
        alts: tuple[str, ...] = (others[0],)
        if number % 6 == 2:
            alts = (ref + "GATTACA"[: 1 + number % 5],)
        elif number % 6 == 3:
            ref, alts = bases[start : start + 2 + number % 4], (ref,)
        elif number % 6 == 5:
            alts = (others[0], others[1]) if number != 17 else (others[0], "*")
        sites.append(Site(contig, start, ref, alts, number % 4 != 1))
    sites.append(Site("c2", 5_900, genome["c2"][5_900], ("<DEL>",), False))
    return sites


def _columns() -> str:
    return f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{SAMPLE}"


def _write_callsets(folder: Path, sites: Sequence[Site]) -> None:
    text = "\n".join([*HEADER, _columns(), *(site.line(number) for number, site in enumerate(sites))]) + "\n"
    content = text.encode()
    (folder / "c.vcf").write_bytes(content)
    for name, csi in (("c.vcf.gz", False), ("x.vcf.gz", True)):
        (folder / name).write_bytes(bgzf(content, 2_000))
        pysam.tabix_index(str(folder / name), preset="vcf", csi=csi)
    pysam.bcftools.view("--no-version", "-Ob", "-o", str(folder / "c.bcf"), str(folder / "c.vcf"), catch_stdout=False)


def _write_reads(folder: Path, dice: random.Random, genome: dict[str, str], sites: Sequence[Site]) -> None:
    header = {
        "HD": {"VN": "1.6", "SO": "coordinate"},
        "SQ": [{"SN": name, "LN": length} for name, length in CONTIGS.items()],
        "RG": [{"ID": "g", "SM": SAMPLE}],
    }
    numbers = list(CONTIGS)
    drawn = [read for site in sites for read in _reads_at(dice, genome[site.contig], site)]
    drawn.sort(key=lambda read: (numbers.index(read[0]), read[1]))
    fasta = str(folder / "ref.fa")
    for name, mode, options in (("r.bam", "wb", {}), ("r.cram", "wc", {"format_options": [b"seqs_per_slice=40"]})):
        path = str(folder / name)
        more = {"reference_filename": fasta, **options} if mode == "wc" else {}
        with pysam.AlignmentFile(path, mode, header=header, **more) as out:
            for number, (contig, start, cigar, bases) in enumerate(drawn):
                read = pysam.AlignedSegment(out.header)
                read.query_name, read.query_sequence = f"r{number}", bases
                read.query_qualities = pysam.qualitystring_to_array(
                    "".join("?AEI"[(number + i) % 4] for i in range(80))
                )
                read.reference_id, read.reference_start, read.cigartuples = numbers.index(contig), start, cigar
                read.flag, read.mapping_quality = 16 * (number % 2), 60 - number % 3
                read.set_tag("RG", "g")
                out.write(read)
        pysam.index(path)


def _reads_at(dice: random.Random, genome: str, site: Site) -> list[tuple[str, int, list[tuple[int, int]], str]]:
    """Reads over a site: contig, 0-based start, CIGAR and bases; half of them carry its first ALT if it is real."""
    reads = []
    alt = site.alts[0]
    for number in range(READS_AT_ONE):
        before = dice.randrange(10, 60)
        start = site.start - before
        end = start + READ_BASES
        if not site.real or number % 2 or not alt.isalpha():
            reads.append((site.contig, start, [(0, READ_BASES)], genome[start:end]))
            continue
        longer = len(alt) - len(site.ref)
        after = READ_BASES - before - len(alt)
        bases = genome[start : site.start] + alt + genome[site.start + len(site.ref) :][:after]
        if longer > 0:
            cigar = [(0, before + 1), (1, longer), (0, after)]
        elif longer < 0:
            cigar = [(0, before + 1), (2, -longer), (0, after)]
        else:
            cigar = [(0, READ_BASES)]
        reads.append((site.contig, start, cigar, bases))
    return reads


def _write_truth(folder: Path, sites: Sequence[Site]) -> None:
    real = [site.line(number) for number, site in enumerate(sites) if site.real]
    (folder / "truth.vcf.gz").write_bytes(bgzf(("\n".join([*HEADER, _columns(), *real]) + "\n").encode(), 1_000))
    pysam.tabix_index(str(folder / "truth.vcf.gz"), preset="vcf")
    (folder / "confident.bed").write_text("c1\t0\t18000\tfirst\nc1\t20000\t40000\tsecond\nc2\t100\t5800\n")
