"""Paths, URLs and files, in local folders and in an object store on this machine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pysam
import pytest

from cnnspark.common import storage
from cnnspark.common.storage import read_json, write_json
from cnnspark.errors import InputError, UsageError
from cnnspark.execution import run_lock
from cnnspark.formats import htslib
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region, read_bed
from cnnspark.formats.vcf import VcfSource
from tests.conftest import ROOT, write_vcf
from tests.support.object_store import SECRET, Store, opened_store


@pytest.fixture(scope="module")
def store(store_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(store_server, tmp_path_factory.mktemp("temporary")) as opened:
        yield opened


@pytest.fixture(params=["local", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> storage.Location:
    """Runs a test in a local folder and in the store."""
    if request.param == "local":
        return tmp_path
    return request.getfixturevalue("store").path(tmp_path.name)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/x.vcf.gz", "/data/x.vcf.gz"),
        ("/data/../x", "/x"),
        ("file:///data/a%20b.bam", "/data/a b.bam"),
        ("file://localhost/data/x", "/data/x"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("s3a://bucket/key", "s3://bucket/key"),
        ("https://host:8080/x.vcf.gz?version=2", "https://host:8080/x.vcf.gz?version=2"),
        ("s3+http://bucket/key", "s3+http://bucket/key"),
    ],
)
def test_paths_are_made_absolute_and_urls_stay(path: str, expected: str) -> None:
    assert storage.absolute(path) == expected


def test_a_relative_path_is_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("x") == str(tmp_path / "x") and storage.location("x") == tmp_path / "x"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/out",
        f"s3://key:{SECRET}:token@bucket/out",
        f"https://user:{SECRET}@host/x.bam",
        f"https://bucket.s3.amazonaws.com/x.bam?X-Amz-Signature={SECRET}",
        f"https://account.blob.core.windows.net/x.bam?sv=2024&sig={SECRET}",
        f"https://storage.googleapis.com/x.bam?X-Goog-Credential={SECRET}",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="carries credentials") as refused:
        storage.absolute(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://host/out", "can only be read"),
        ("s3+http://bucket/out", "can only be read"),
        ("file://other/out", "names a machine"),
        ("nosuch://bucket/out", "cannot be written to"),
    ],
)
def test_what_cannot_be_written_is_refused(path: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        storage.location(path)


def test_a_store_without_its_package_says_what_to_install() -> None:
    code = "import sys; sys.modules['s3fs'] = None; from cnnspark.common.storage import location; location('s3://bucket/x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cnnspark.errors.UsageError") and "pip install 'cnnspark[s3]'" in last


def test_a_file_is_committed_whole(folder: storage.Location) -> None:
    target = folder / "deep" / "block.vcf.gz"
    storage.make_parents(target)
    with storage.private_file(target) as temporary:
        temporary.write_bytes(b"first")
        assert storage.size(target) is None and temporary.name.endswith(".vcf.gz")
        storage.commit(temporary, target)
    assert target.read_bytes() == b"first"
    with pytest.raises(ZeroDivisionError), storage.private_file(target) as temporary:
        temporary.write_bytes(b"second")
        raise ZeroDivisionError
    assert target.read_bytes() == b"first" and not temporary.exists()
    assert [path.name for path in target.parent.iterdir()] == ["block.vcf.gz"]


def test_an_output_that_exists_is_refused_unless_the_user_chose(folder: storage.Location) -> None:
    target = folder / "out"
    storage.require_free(target, False)
    storage.require_free(target, False, empty_ok=True)
    storage.make_parents(target / "x")
    storage.write_text(target / "x", "content")
    for path, empty_ok in ((target, False), (target, True), (target / "x", False), (target / "x", True)):
        storage.require_free(path, True, empty_ok=empty_ok)
        with pytest.raises(UsageError) as refused:
            storage.require_free(path, False, "--model-out", "resume or overwrite", empty_ok, ", half of it")
        remedy = "choose another --model-out, or --if-exists resume or overwrite"
        assert str(refused.value) == f"{path} exists, half of it; {remedy}"


def test_an_empty_folder_is_free_for_a_folder_alone(tmp_path: Path) -> None:
    storage.require_free(str(tmp_path), False, empty_ok=True)
    with pytest.raises(UsageError, match="exists; choose another --out, or --if-exists overwrite"):
        storage.require_free(str(tmp_path), False)


def test_two_attempts_have_files_of_their_own(folder: storage.Location) -> None:
    with storage.private_file(folder / "x") as one, storage.private_file(folder / "x") as other:
        assert one != other


def test_small_files_sizes_and_removal(folder: storage.Location) -> None:
    write_json(folder / "a.json", {"x": 1})
    storage.make_parents(folder / "rows" / "x")
    for number in range(12):
        storage.write_text(folder / "rows" / f"{number}.json", "x" * number)
    assert read_json(folder / "a.json", "a run") == {"x": 1}
    with pytest.raises(InputError, match=r"is not a run \(it has no b.json\)"):
        read_json(folder / "b.json", "a run")
    names = [f"rows/{number}.json" for number in (3, 5, 99)]
    assert storage.sizes(folder, names) == {"rows/3.json": 3, "rows/5.json": 5}
    assert storage.sizes(folder, names[:1]) == {"rows/3.json": 3} and storage.sizes(folder, ["rows"]) == {}
    assert storage.read_texts([folder / name for name in names[:2]]) == ["xxx", "xxxxx"]
    assert storage.has_files(folder) and not storage.has_files(folder / "none")
    storage.remove(folder / "rows")
    storage.remove(folder / "a.json")
    storage.remove(folder / "never was")
    assert not storage.has_files(folder)


def test_a_private_folder_is_gone_afterwards(folder: storage.Location) -> None:
    with run_lock.private_folder(folder / "x.vcf.gz", "work") as beside:
        storage.make_parents(beside / "shards" / "a")
        storage.write_text(beside / "shards" / "a", "a")
        assert beside.parent == folder and storage.has_files(beside)
    assert not storage.has_files(folder)


def test_a_location_is_the_same_in_another_process(folder: storage.Location) -> None:
    storage.write_text(folder / "x", "content")
    assert pickle.loads(pickle.dumps(folder / "x")).read_text() == "content"


def test_files_of_another_process_are_seen_at_once(store: Store) -> None:
    rows = store.path("seen") / "rows"
    assert not list(rows.glob("*.json"))
    code = f"from cnnspark.common.storage import location, write_text; write_text(location('{rows}/1.json'), 'x')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert [path.name for path in rows.glob("*.json")] == ["1.json"]


def test_htslib_uses_the_same_endpoint_as_all_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTS_S3_HOST", "HTS_S3_ADDRESS_STYLE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert htslib.for_htslib("s3://bucket/x") == "s3://bucket/x" and "HTS_S3_HOST" not in os.environ
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert htslib.for_htslib("s3://bucket/x") == "s3+http://bucket/x"
    assert (os.environ["HTS_S3_HOST"], os.environ["HTS_S3_ADDRESS_STYLE"]) == ("127.0.0.1:9000", "path")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://store.example.org")
    assert htslib.for_htslib("s3://bucket/x") == "s3+https://bucket/x"
    assert os.environ["HTS_S3_HOST"] == "127.0.0.1:9000"  # what is set stays
    for path in ("/x", "https://host/x", "s3+http://bucket/x"):
        assert htslib.for_htslib(path) == path


def test_remote_inputs_read_alike_and_leave_no_index(
    store: Store, simulated: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {name: str(getattr(simulated, name)) for name in ("vcf", "reads", "reference", "bed")}
    cram = tmp_path / "reads.cram"
    with pysam.AlignmentFile(paths["reads"]) as source:
        kept = pysam.AlignmentFile(str(cram), "wc", template=source, reference_filename=paths["reference"])
        for record in source.fetch(source.references[0], 0, 20_000):
            kept.write(record)
        kept.close()
    pysam.index(str(cram))
    there = {name: store.put(path, f"in/{name}{Path(path).suffix}") for name, path in paths.items()}
    there["cram"] = store.put(cram, "in/reads.cram")
    for local, name in ((f"{paths['vcf']}.tbi", "vcf.gz.tbi"), (f"{cram}.crai", "reads.cram.crai"),
                        (f"{paths['reference']}.fai", f"reference{Path(paths['reference']).suffix}.fai"),
                        (f"{paths['reads']}.bai", "reads.bai")):  # fmt: skip
        store.put(local, f"in/{name}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    # An index of another file under the same name, which htslib would take if left to itself.
    other = Path(write_vcf(tmp_path / "work" / "vcf.gz", ["c1 5 . A C . . ."]))
    before = sorted(os.listdir("."))
    with VcfSource(paths["vcf"]) as local, VcfSource(there["vcf"]) as remote:
        region = Region(local.contigs[0])
        assert remote.header.lines == local.header.lines and remote.contigs == local.contigs
        assert list(remote.lines(region)) == list(local.lines(region))
    span = Region(region.contig, 5_000, 9_000)
    with ReadSource(paths["reads"]) as local_reads:
        expected = local_reads.read(span, None)
    for name in ("reads", "cram"):
        with ReadSource(there[name], there["reference"]) as remote_reads:
            assert (remote_reads.read(span, None).bases == expected.bases).all() and len(expected) > 100
    genome = ReferenceSource(there["reference"])
    assert genome.sequence(region.contig, 0, 5_000) == ReferenceSource(paths["reference"]).sequence(
        region.contig, 0, 5_000
    )
    assert read_bed(there["bed"]) == read_bed(paths["bed"])
    assert sorted(os.listdir(".")) == before and other.exists()


@pytest.mark.parametrize(
    ("path", "endings"),
    [
        ("/data/reads.bam", (".csi", ".bai")),
        ("https://host/reads.CRAM?version=2", (".crai",)),
        ("/data/reads", (".csi", ".bai", ".crai")),
    ],
)
def test_an_index_is_looked_for_by_the_kind_of_file(path: str, endings: tuple[str, ...]) -> None:
    assert htslib.read_indexes(path) == endings


def test_remote_files_open_where_tensorflow_was_loaded_before(store: Store) -> None:
    """htslib's libcurl would call functions of TensorFlow's and crash."""
    store.path("x.txt").write_bytes(b"content")
    code = (
        "import sys, tensorflow\nfrom cnnspark.formats.htslib import open_input\n"
        "with open_input(sys.argv[1]) as file: print(file.read().decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.url("x.txt")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "content"), done.stderr[-500:]


def test_a_remote_file_without_index_or_end_is_said(store: Store, tmp_path: Path) -> None:
    vcf = write_vcf(tmp_path / "x.vcf.gz", ["c1 5 . A C . . ."])
    url = store.put(vcf, "alone/x.vcf.gz")
    with pytest.raises(InputError, match="has no index"):
        VcfSource(url)
    with pytest.raises(InputError, match="callset .*none.vcf.gz cannot be opened"):
        htslib.require_remote(store.url("alone/none.vcf.gz"), "callset")
    store.path("alone/empty").write_bytes(b"")
    with pytest.raises(InputError, match="it is empty"):
        htslib.require_remote(store.url("alone/empty"), "callset")


def said(environment: dict[str, str], path: str) -> tuple[int, str]:
    """Exit code and message of a training that writes to a store, with these environment variables."""
    code = (
        "import sys\nfrom cnnspark.common.error_translation import explain\n"
        "from cnnspark.training import TrainSettings, train\n"
        "try:\n    train(None, 'x', sys.argv[1], TrainSettings())\n"
        "except Exception as error:\n    found = explain(error)\n    print(found)\n    sys.exit(found.exit_code)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HTS_"))}
    fixed = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True, text=True, cwd=ROOT, check=False, env=kept | fixed | environment,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_missing_credentials_are_one_sentence(store: Store) -> None:
    code, message = said({"AWS_ENDPOINT_URL": store.environment["AWS_ENDPOINT_URL"]}, store.url("out"))
    assert code == 2 and "there are no credentials" in message and "AWS_ACCESS_KEY_ID" in message


def test_a_bucket_that_is_not_there_is_one_sentence(store: Store) -> None:
    code, message = said(store.environment, "s3://no-such-bucket/out")
    assert code == 2 and "bucket that does not exist" in message and SECRET not in message
