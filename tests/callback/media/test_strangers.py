"""Learners of other libraries: detectors, GANs, loaders without a dataset."""

from __future__ import annotations

import torch
from fastai.basics import DataLoaders
from fastai.vision.all import Callback, CrossEntropyLossFlat, ImageBlock, Learner, noop, set_seed
from fastai.vision.gan import GANLearner, basic_critic, basic_generator, generate_noise

from .oracle import Oracle, fit, learner, matrix, pictures, right


class Pipeline:
    """A loader of another library: batches, and nothing else."""

    def __init__(self, batches, size):
        self.batches, self.size = batches, size

    def __len__(self):
        return self.batches

    def __iter__(self):
        for n in range(self.batches):
            rows = self.size if n < self.batches - 1 else 2
            yield torch.rand(rows, 4), torch.arange(rows) % 2


def linear():
    """Return a model of two classes."""
    return torch.nn.Sequential(torch.nn.Linear(4, 2))


def test_loaders_without_a_dataset(run, finished, tmp_path):
    """Training is logged; that the loader can't decode its items is said once."""
    dls = DataLoaders(Pipeline(3, 4), Pipeline(2, 4), path=tmp_path)
    learn = learner(dls, linear(), torch.nn.CrossEntropyLoss())
    said = fit(learn, 2, log_preds_every_epoch=True)

    logged = finished(run)
    assert len(logged.column("raw_loss")) == 6
    assert len(logged.column("valid_loss")) == 2
    assert ["cannot decode items" in message for message in said] == [True]


class Two:
    """Loaders by index and by name, and no more."""

    def __init__(self, dls):
        self.train, self.valid, self.device, self.path = dls.train, dls.valid, None, dls.path

    def __getitem__(self, n):
        return (self.train, self.valid)[n]


def test_loaders_that_are_no_dataloaders(run, finished, tmp_path):
    """What a `Learner` needs is enough for samples, charts and the model."""
    learn = learner(Two(pictures(tmp_path)), Oracle(), CrossEntropyLossFlat(), path=tmp_path)

    assert fit(learn, log_model=True) == []
    logged = finished(run)
    assert right(logged.table("Prediction_Samples")) == 1
    assert [a.type for a in logged.artifacts if a.type == "model"] == ["model"]


class Reused:
    """A loader in the manner of FFCV and DALI: one buffer for all batches, in dictionaries."""

    def __init__(self, batches, path):
        self.batches, self.path = batches, path
        self.buffer = torch.zeros(4, 3, 8, 8)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for n in range(self.batches):
            kinds = (torch.arange(4) + n) % 2
            self.buffer[:] = ((60 + 40 * kinds) / 255)[:, None, None, None]
            yield [{"data": self.buffer, "label": kinds[:, None].int()}]


class Unpack(Callback):
    """Take a batch of such a loader apart."""

    order = -50

    def before_batch(self):
        (batch,) = (part for part in self.xb if isinstance(part, dict))
        self.learn.xb, self.learn.yb = (batch["data"],), (batch["label"][:, 0].long(),)


def test_loaders_that_use_their_memory_again(run, finished, tmp_path):
    """What is kept is a copy: with the names of the classes there is the confusion matrix."""
    dls = DataLoaders(Reused(3, tmp_path), Reused(2, tmp_path), path=tmp_path)
    dls.vocab = ["a", "b"]
    learn = learner(dls, Oracle(), CrossEntropyLossFlat(), cbs=Unpack())
    said = fit(learn, 2, log_model=True)

    logged = finished(run)
    assert matrix(logged) == {("a", "a"): 4, ("b", "b"): 4}
    assert len(logged.column("raw_loss")) == 6
    assert ["cannot decode items" in message for message in said] == [True]


class Boxes(torch.nn.Module):
    """Take a list of pictures, return losses by name in training, boxes otherwise."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images, targets):
        if self.training:
            losses = [(image.mean() * self.w).pow(2) + self.w for image in images]
            return {"loss_box": torch.stack(losses).mean(), "loss_class": self.w.sum() ** 2}
        return [{"boxes": torch.zeros(n, 4), "labels": torch.ones(n)} for n, _ in enumerate(images)]


class Detector(Learner):
    """Sum the losses by name; the validation has none."""

    def _do_one_batch(self):
        self.pred = self.model(self.xb[0], self.yb[0])
        self("after_pred")
        if self.training:
            self.loss_grad = sum(self.pred.values())
            self.loss = self.loss_grad.clone()
            self("after_loss")
            self._do_grad_opt()
        else:
            self.loss = torch.tensor(0.0)


def collate(items):
    """Return lists of pictures and of targets."""
    return [image for image, _ in items], [target for _, target in items]


def test_detector_with_losses_by_name(run, finished, tmp_path):
    """Items are counted as pictures, their sizes may differ, and training goes on."""
    items = [(torch.rand(3, 8, 8 + n % 2), {"boxes": torch.zeros(1, 4)}) for n in range(8)]
    loader = torch.utils.data.DataLoader(items, batch_size=4, collate_fn=collate)
    dls = DataLoaders(loader, loader, path=tmp_path)
    learn = learner(dls, Boxes(), noop, cls=Detector, metrics=None)
    said = fit(learn, 2)

    logged = finished(run)
    assert len(logged.column("raw_loss")) == 4
    assert len(said) == 1


def test_generative_adversarial_network(run, finished, tmp_path):
    """A GAN trains, each step and each epoch has its row, and its weights stay the same."""
    generate = {"get_x": lambda _: generate_noise("", 6), "get_y": _picture}
    from fastai.vision.all import TransformBlock

    trained = []
    for logged_too in (False, True):
        set_seed(0)
        blocks = (TransformBlock, ImageBlock)
        dls = pictures(tmp_path, blocks, **generate)
        models = basic_generator(8, 3, in_sz=6, n_features=4), basic_critic(8, 3, n_features=4)
        learn = GANLearner.wgan(dls, *models, path=tmp_path)
        learn.logger = lambda *_: None
        learn.remove_cb(learn.progress) if hasattr(learn, "progress") else None
        if logged_too:
            fit(learn)
        else:
            learn.fit(1)
        trained.append(torch.cat([p.detach().flatten() for p in learn.model.parameters()]))

    logged = finished(run)
    assert torch.equal(*trained)
    assert len(logged.column("raw_loss")) == len(learn.dls.train)


def _picture(i):
    from .oracle import picture

    return picture(i)


def test_encoder_of_timm(run, finished, tmp_path):
    """A model that is given by its name, or the name's absence, is in the config."""
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat())
    learn.arch, learn.pretrained, learn.n_out = "convnext_tiny", True, 2
    fit(learn)

    config = finished(run).config["Learner"]
    assert (config["arch"], config["pretrained"], config["n_out"]) == ("convnext_tiny", True, 2)
