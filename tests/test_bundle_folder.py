"""A bundle is where it belongs whole, or not at all: on this machine and in a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspark.common.storage import location
from cnnspark.errors import InputError
from cnnspark.models.bundle_files import new_bundle


def written(target: str, *names: str, fails: bool = False, replace: bool = True) -> set[str]:
    """The files of ``target`` after these were written to it."""
    with new_bundle(target, replace) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        if fails:
            raise RuntimeError("in the middle")
    return there(target)


def there(target: str) -> set[str]:
    found = location(target).rglob("*")
    return {str(path).removeprefix(f"{location(target)}/") for path in found if path.is_file()}


@pytest.mark.parametrize("place", ["{}/m", "memory://bundles/{}/m"])
def test_a_bundle_replaces_another_with_all_its_files(place: str, tmp_path: Path) -> None:
    target = place.format(tmp_path)
    assert written(target, "first/model.json", "model.keras", "model.json") == {
        "first/model.json", "model.keras", "model.json",
    }  # fmt: skip
    with pytest.raises(InputError, match="exists; give another name or --if-exists overwrite"):
        written(target, "model.json", replace=False)
    with pytest.raises(RuntimeError):
        written(target, "history.json", fails=True)
    assert there(target) == {"first/model.json", "model.keras", "model.json"}
    assert written(target, "model.keras", "model.json") == {"model.keras", "model.json"}
    if not place.startswith("memory"):
        assert [path.name for path in tmp_path.iterdir()] == ["m"]
