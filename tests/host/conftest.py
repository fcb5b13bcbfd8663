import pytest

from samerun.core import nvidia_smi


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an nvidia-smi on PATH that prints what a real one did, with its exit code."""

    def make(text, code=0, *, old="", listed=""):
        folder = tmp_path / "smi"
        folder.mkdir(exist_ok=True)
        for name, content in (("now", text), ("old", old), ("listed", listed)):
            raw = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(raw)
        script = folder / "nvidia-smi"
        script.write_text(f"""#!/bin/sh
case "$*" in
    -L) cat {folder}/listed; exit {code} ;;
    *compute_cap*) cat {folder}/now; exit {code} ;;
    *) cat {folder}/old ;;
esac
""")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return script

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nvidia_smi, "WSL_PATH", tmp_path / "absent")
    return make
