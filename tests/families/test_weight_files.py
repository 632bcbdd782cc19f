"""Weights from file to file, one at a time; the library safetensors says whether the files are right."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from easyvideor1.families.weight_files import LazyTensor, stored_settings, stored_weights, write_tensors, write_weights
from easyvideor1.types import DataError

TENSORS = {
    "odd": torch.arange(3, dtype=torch.bfloat16),
    "wide": torch.linspace(-1, 1, 35).reshape(5, 7),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "none": torch.empty(0, 4),
    "whole": torch.tensor([[1, -2]]),
    "flag": torch.tensor([True, False]),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def lazy():
    return {name: LazyTensor.of(tensor) for name, tensor in TENSORS.items()}


def same(found):
    assert found.keys() == TENSORS.keys()
    assert all(
        tensor.dtype == TENSORS[name].dtype and torch.equal(tensor, TENSORS[name]) for name, tensor in found.items()
    )


@pytest.mark.parametrize("shard_bytes", [10**9, 100, 1])
def test_what_is_written_is_what_safetensors_reads(tmp_path, shard_bytes) -> None:
    told = []
    write_weights(tmp_path, lazy(), shard_bytes, lambda done, total: told.append((done, total)))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == {10**9: 1, 100: 3, 1: 7}[shard_bytes]
    same({name: tensor for file in files for name, tensor in load_file(file).items()})
    same({name: tensor.load() for name, tensor in stored_weights(tmp_path).items()})
    total = sum(tensor.nbytes for tensor in TENSORS.values())
    assert told[-1] == (total, total) and told == sorted(told)
    if len(files) > 1:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == total
        for name, file in index["weight_map"].items():
            with safe_open(tmp_path / file, "pt") as opened:
                assert name in opened.keys()  # noqa: SIM118 - it is no mapping


def test_what_safetensors_writes_is_what_is_read(tmp_path) -> None:
    save_file(
        {name: tensor.contiguous() for name, tensor in TENSORS.items()}, tmp_path / "model.safetensors", {"a": "b"}
    )
    same({name: tensor.load() for name, tensor in stored_weights(tmp_path).items()})
    assert stored_settings(tmp_path / "model.safetensors") == {"a": "b"}


def test_tensors_are_aligned_to_their_values(tmp_path) -> None:
    """As the library asks for: three values of two bytes in front of floats would shift these."""
    write_tensors(tmp_path / "file", lazy(), {"why": "a test"})
    length = int.from_bytes((tmp_path / "file").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "file").read_bytes()[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt", "why": "a test"}
    assert length % 8 == 0
    assert all(entry["data_offsets"][0] % TENSORS[name].dtype.itemsize == 0 for name, entry in header.items())


def test_another_type_is_for_floats(tmp_path) -> None:
    write_weights(tmp_path, {name: tensor.to(torch.float16) for name, tensor in lazy().items()})
    found = load_file(tmp_path / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        **dict.fromkeys(TENSORS, torch.float16),
        "whole": torch.int64,
        "flag": torch.bool,
    }


def test_one_tensor_at_a_time_is_loaded(tmp_path) -> None:
    alive = []

    def load(number):
        assert not alive, "the one before is still there"
        tensor = torch.full((10,), float(number))
        alive.append(1)
        import weakref

        weakref.finalize(tensor, alive.pop)
        return tensor

    tensors = {str(n): LazyTensor(torch.float32, (10,), lambda n=n: load(n)) for n in range(5)}
    write_weights(tmp_path, tensors, 80)
    assert stored_weights(tmp_path)["3"].load().tolist() == [3.0] * 10


def shorten(file):
    file.write_bytes(file.read_bytes()[:-1])


def test_damage_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match="no weights"):
        stored_weights(tmp_path)
    write_weights(tmp_path, lazy(), 100)
    first, second = sorted(tmp_path.glob("*.safetensors"))[:2]
    kept = first.read_bytes()
    shorten(first)
    with pytest.raises(DataError, match=f"{first.name}: is damaged: it has {len(kept) - 1} bytes"):
        stored_weights(tmp_path)
    first.write_bytes(b"\xff" * 8)
    with pytest.raises(DataError, match="header cannot be read"):
        stored_weights(tmp_path)
    first.unlink()
    with pytest.raises(DataError, match=f"{first.name}: cannot be read"):
        stored_weights(tmp_path)
    first.write_bytes(kept)
    content = load_file(second)
    save_file({**content, "more": torch.ones(1)}, second)
    with pytest.raises(DataError, match=r"the tensor 'more' is not in model\.safetensors\.index\.json"):
        stored_weights(tmp_path)
    gone = min(content)
    save_file({name: tensor for name, tensor in content.items() if name != gone} or {"x": torch.ones(1)}, second)
    with pytest.raises(DataError, match=f"the tensor '{gone}' is missing there"):
        stored_weights(tmp_path)
