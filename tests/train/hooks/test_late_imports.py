"""fastai gets scikit-learn and scipy.stats when it uses them, and everyone else at once."""

import subprocess
import sys

import pytest

BEGIN = "import sys, samerun.train.hook\n"
CODES = {
    "not loaded": """
from fastai.tabular.all import *
assert not {"sklearn", "scipy.stats"} & set(sys.modules), "loaded"
""",
    "splitter": """
from fastai.data.transforms import TrainTestSplitter
import numpy as np
train, valid = TrainTestSplitter(test_size=0.25, random_state=1)(np.arange(8))
assert sorted([*train, *valid]) == list(range(8)) and len(valid) == 2
""",
    "metrics": """
from fastai.vision.all import *
metric = F1Score()
for _ in range(2):
    y = tensor([0, 1, 0, 1])
    learn = SimpleNamespace(pred=torch.eye(4)[:, :2], y=y, yb=(y,), to_detach=to_detach)
    metric.reset(); metric.accumulate(learn)
import sklearn.metrics
assert metric.func is sklearn.metrics.f1_score
assert 0 <= metric.value <= 1
assert abs(float(PearsonCorrCoef().func([1., 2, 3], [1., 2, 3])) - 1) < 1e-6
""",
    "own import": """
from fastai.basics import *
import sklearn.model_selection, scipy.stats, sklearn
from sklearn.linear_model import LogisticRegression
assert type(sklearn).__name__ == type(scipy.stats).__name__ == "module"
assert scipy.stats.norm.cdf(0) == 0.5
assert callable(sklearn.model_selection.KFold)
""",
    "imported before": """
import sklearn.metrics, scipy.stats
import fastai.metrics as m
assert m.skm is sklearn.metrics and m.scs is scipy.stats
""",
    "hidden": """
sys.modules["samerun"] = None
from fastai.tabular.all import *
assert "sklearn" in sys.modules
""",
    "pickled": """
import pickle, fastai.data.transforms as t
data = pickle.dumps(t.train_test_split)
import sklearn.model_selection
assert pickle.loads(data) is sklearn.model_selection.train_test_split
assert b"samerun" not in data
""",
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
def test_modules_are_there_when_they_are_used(name):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + CODES[name]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
