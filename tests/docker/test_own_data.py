"""Data of a user: several folders, links, and what fastai writes beside them."""

import shutil

import pytest
from driving import invoke

from samerun.core import record

SCRIPT = """
import os
from pathlib import Path
from fastai.tabular.all import *
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.progress import CSVLogger

data = Path(os.environ["SAMERUN_DATA"])
print("FOUND", len(get_files("{photos}")))
x, y = pd.read_csv(data / "photos" / "x.csv"), pd.read_csv(data / "labels" / "deep" / "y.csv")
dls = TabularDataLoaders.from_df(
    pd.concat([x, y], axis=1), data / "photos", cont_names=["a", "b"], y_names="y",
    y_block=CategoryBlock(), bs=8, num_workers=0,
)
learn = tabular_learner(dls, metrics=accuracy, layers=[8])
learn.lr_find(show_plot=False, num_it=10, suggest_funcs=None)
learn.fit_one_cycle(2, 1e-2, cbs=[SaveModelCallback(), CSVLogger()])
learn.save("last")
learn.load("last")
learn.export()
load_learner(data / "photos" / "export.pkl")
"""


@pytest.fixture
def folders(tmp_path):
    """Numbers in one folder; labels behind a link out of another one."""
    for name in ("photos", "labels", "store/deep"):
        (tmp_path / name).mkdir(parents=True)
    numbers = "\n".join(f"{i % 7},{i % 5}" for i in range(64))
    (tmp_path / "photos" / "x.csv").write_text(f"a,b\n{numbers}\n")
    (tmp_path / "store" / "deep" / "y.csv").write_text("y\n" + "\n".join("pq" * 32) + "\n")
    (tmp_path / "labels" / "readme").write_text("labels")
    (tmp_path / "labels" / "deep").symlink_to("../store/deep")
    (tmp_path / "train.py").write_text(SCRIPT.format(photos=tmp_path / "photos"))
    return tmp_path


def test_several_folders_with_links_train_and_are_reproduced_from_copies(train, folders):
    """What fastai writes is in the run's folder; nothing changes beside the data."""
    photos, labels = folders / "photos", folders / "labels"
    options = ["--gpus", "0", "--data", f"photos={photos}", "--data", f"labels={labels}"]
    (folders / "code").mkdir()
    script = shutil.move(folders / "train.py", folders / "code" / "train.py")

    done, run = train(script, *options, "--follow-links")

    folder = folders / "runs" / "run-own_data"
    assert done.returncode == 0, done.stderr
    assert [(one.target, one.files) for one in run.data] == [
        ("/data/photos", 1),
        ("/data/labels", 2),
    ]
    for name in ("export.pkl", "history.csv", "models/model.pth", "models/last.pth"):
        assert (folder / name).is_file(), name
    assert sorted(path.name for path in photos.iterdir()) == ["x.csv"]
    assert done.stderr.count("so what fastai writes there goes to /output") == 1
    assert f"{photos} in {script} is a path of this machine" in done.stdout
    assert f"{photos} is not in the container: there, this data is /data/photos." in done.stderr

    moved = folders / "moved"
    shutil.copytree(labels, moved)  # Without links.
    again = invoke(
        *("reproduce", folder, "--data", f"labels={moved}", "--output", folders / "runs"),
        *("--name", "run-own_data-again", "--no-network"),
    )
    assert again.returncode == 0, again.stderr
    assert record.read(folders / "runs" / "run-own_data-again").data[1].source == str(moved)
