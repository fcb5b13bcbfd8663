"""
A checkpoint's tensors return to the device that they were on.

``meta`` stands for a GPU: its tensors have a device and no data.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from fastai import optimizer
from fastcore.foundation import L

from samerun.train.checkpoint import attributes, generators, install, snapshot
from samerun.train.checkpoint.history import Kept
from samerun.train.checkpoint.plain import plain, restored
from samerun.train.checkpoint.ranks import SingleProcess
from samerun.train.checkpoint.store import FORMAT, Position
from samerun.train.hooks import observe

CPU, GPU, META = map(torch.device, ("cpu", "cuda:0", "meta"))

OPTIMIZERS = {
    "Adam": optimizer.Adam,
    "SGD": partial(optimizer.SGD, mom=0.9),
    "RMSProp": partial(optimizer.RMSProp, mom=0.9),
    "LAMB": optimizer.Lamb,
    "LARC": optimizer.Larc,
    "QHAdam": optimizer.QHAdam,
    "ranger": optimizer.ranger,
    "Lookahead": lambda params, **k: optimizer.Lookahead(optimizer.SGD(params, mom=0.9, **k)),
    "torch": partial(optimizer.OptimWrapper, opt=torch.optim.AdamW),
}


def trained(make, steps=3, device=CPU):
    """Return what `snapshot` reads of a learner, after some steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).to(device)
    opt = make(L(model.parameters()), lr=0.1)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        opt.step()
    return SimpleNamespace(model=model, opt=opt, cbs=[])


def tensors(value):
    """Yield all tensors inside *value*."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple | L):
        for item in value:
            yield from tensors(item)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_the_optimizer_follows_the_parameters(name):
    """fastai's optimizers assign what they are given, so a step would mix the devices."""
    make = OPTIMIZERS[name]
    state = snapshot.capture(trained(make))
    there = trained(make, 0, META)
    snapshot.restore(there, state)
    # The counters of torch's optimizers are on the CPU.
    state = [t for t in tensors(there.opt.state_dict()) if t.dim() or "torch" not in name]

    assert len(state) >= 4
    assert {t.device.type for t in state} == {"meta"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_restored_optimizer_takes_the_same_step(name):
    """With copies: the step does not change the checkpoint."""
    here, there = trained(OPTIMIZERS[name]), trained(OPTIMIZERS[name], 0)
    state = snapshot.capture(here)
    snapshot.restore(there, state)
    for learn in (here, there):
        for parameter in learn.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        learn.opt.step()

    pairs = zip(here.model.parameters(), there.model.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_completed_fit_is_restored_on_the_device_of_the_loaders():
    """The model is moved first, as the fit would: the next fit finds model and state there."""
    learn = trained(optimizer.Adam)
    about = {
        "format": FORMAT,
        "processes": 1,
        "epochs": 1,
        "batches": 5,
        "changed": [],
        "values": {},
    }
    own = {"callbacks": {}, "witness": observe.state()}
    own["generators"] = generators.capture(SimpleNamespace(loaders=[]))
    state = {**about, "shapes": snapshot.shapes(learn.model), **snapshot.capture(learn)}
    place = Position(fit=0, done=True, epoch=1, batch=0)
    kept = Kept(place=place, state={**state, "ranks": [own]})
    there = trained(optimizer.Adam, 0)

    def create_opt():
        there.opt = optimizer.Adam(L(there.model.parameters()), lr=0.1)

    there.opt, there.create_opt = None, create_opt
    there.loss_func = torch.nn.CrossEntropyLoss(weight=torch.ones(2))
    there.dls = SimpleNamespace(device=META, loaders=[], train=range(5))

    install._restore_end(there, kept, 1, SingleProcess())

    everything = [there.loss_func.weight, *there.model.parameters(), *there.opt.state.values()]
    assert {t.device.type for t in tensors(everything)} == {"meta"}


class Thing:
    """A callback or metric with its own attributes."""

    def __init__(self, **values):
        vars(self).update(values)


def test_attributes_return_to_their_devices():
    """Also one that is None, or absent, before the first batch; nested in a dict of an EMA."""
    shadow = {"0.weight": torch.ones(2), "inner": (torch.ones(1), [torch.zeros(1)])}
    thing = Thing(total=torch.ones(1), shadow=shadow, loss=None)
    state = attributes.capture(thing, CPU)
    new = Thing(total=None, loss=torch.ones(1))
    attributes.restore(new, state, META)

    assert {t.device.type for t in tensors([new.total, new.shadow])} == {"meta"}
    assert new.loss is None


def test_values_on_the_cpu_remain_there_during_a_training_on_a_gpu():
    """fastai's sums and losses are on the CPU, whatever the model's device is."""
    value = {"losses": torch.arange(3.0), "paths": [torch.zeros(1)]}
    back = restored(plain(value, GPU), META)

    assert {t.device.type for t in tensors(back)} == {"cpu"}
    assert torch.equal(back["losses"], value["losses"])


def test_parameter_that_others_hold_remains_the_same_object():
    """E.g. the float32 weights of fastai's older mixed precision, which the optimizer holds."""
    master = torch.nn.Parameter(torch.zeros(2))
    thing = Thing(master_pgs=[[master]])
    state = attributes.capture(Thing(master_pgs=[[torch.ones(2)]]), CPU)
    attributes.restore(thing, state, CPU)

    assert thing.master_pgs[0][0] is master
    assert master.tolist() == [1, 1]


def test_model_returns_to_its_memory_format():
    """A completed fit leaves channels_last, and code may use the model before the next fit."""

    def convolution():
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        opt = optimizer.Adam(L(model.parameters()), lr=0.1)
        return SimpleNamespace(model=model, opt=opt, cbs=[])

    before, after = convolution(), convolution()
    before.model.to(memory_format=torch.channels_last)
    for parameter in before.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before.opt.step()
    kept = after.model[0].weight
    snapshot.restore(after, snapshot.capture(before))

    assert after.model[0].weight is kept
    assert kept.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(kept, before.model[0].weight)
    assert after.opt.state[kept]["grad_avg"].stride() == kept.stride()


def test_generators_of_all_gpus_are_kept(monkeypatch):
    """This process's own by its role, the others in their order: DataParallel draws on all."""
    states = {gpu: torch.tensor([gpu], dtype=torch.uint8) for gpu in range(3)}
    own = [1]

    def get(gpu="cuda"):
        return states[own[0] if gpu == "cuda" else gpu].clone()

    def put(state, gpu="cuda"):
        states[own[0] if gpu == "cuda" else gpu] = state

    monkeypatch.setattr(generators, "_has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: own[0])
    monkeypatch.setattr(torch.cuda, "get_rng_state", get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    kept = generators.capture(SimpleNamespace(loaders=[]))
    own[0] = 0
    generators.restore(kept)

    assert [int(states[gpu]) for gpu in range(3)] == [1, 0, 2]
