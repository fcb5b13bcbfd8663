import io
import os
import tarfile

import pytest

from samerun.core.errors import CodeError
from samerun.host.checkout import user_code
from samerun.host.image import script_layer


@pytest.fixture
def folder(tmp_path):
    """A script with a helper, data that is ignored, and what tools leave behind."""
    for name in ("train.py", "lib/helper.py", "big.bin", "wandb/x", "__pycache__/train.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.bin\n")
    return tmp_path


def script(folder):
    return user_code.find(folder / "train.py")


def test_same_code_gives_the_same_bytes(folder):
    """File times and owners do not get into the context."""
    first = script_layer.pack(script(folder))
    os.utime(folder / "train.py", (1, 1))

    assert first == script_layer.pack(script(folder))


def test_context_holds_the_code_and_its_parent(folder):
    """One FROM, one COPY."""
    with tarfile.open(fileobj=io.BytesIO(script_layer.pack(script(folder)))) as tar:
        dockerfile = tar.extractfile("Dockerfile").read().decode()

        assert dockerfile.startswith("ARG PARENT\nFROM $PARENT\nCOPY ")
        assert "code/lib/helper.py" in tar.getnames()
        assert "code/big.bin" not in tar.getnames()


def test_too_large_a_folder_is_refused(folder, monkeypatch):
    """Data belongs behind --data; the error says so, and names the largest files."""
    (folder / "weights.pth").write_bytes(bytes(3000))
    monkeypatch.setattr(script_layer, "LIMIT_BYTES", 1000)

    with pytest.raises(CodeError, match=r"largest: weights\.pth \(0\.0 MiB\)") as error:
        script_layer.pack(script(folder))
    assert "--data" in error.value.remedy
