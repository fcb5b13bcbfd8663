"""Whether operations give the same bits each time; prints a JSON object of name and answer."""

import hashlib
import json
import warnings

import torch
from torch.nn import functional as F  # noqa: N812

warnings.simplefilter("ignore")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TIMES = 20 if DEVICE == "cuda" else 2


def digest(tensors):
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(
            tensor.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy().tobytes()
        )
    return sha.hexdigest()


def gradient(function, *shapes, integers=False):
    """Return value and gradients of *function*, with ties if *integers*."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape, device=DEVICE) for shape in shapes]
    if integers:
        inputs = [(10 * x).round() / 10 for x in inputs]
    inputs = [x.requires_grad_() for x in inputs]
    out = function(*inputs)
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape, device=DEVICE))
    return [out, *(x.grad for x in inputs)]


IMAGES = (64, 512, 7, 7)
OPERATIONS = {
    "adaptive_max_pool2d to 1": lambda: gradient(lambda x: F.adaptive_max_pool2d(x, 1), IMAGES),
    "adaptive_max_pool2d to 1, ties": lambda: gradient(
        lambda x: F.adaptive_max_pool2d(x, 1), IMAGES, integers=True
    ),
    "adaptive_max_pool2d to 3 of 7": lambda: gradient(
        lambda x: F.adaptive_max_pool2d(x, 3), IMAGES
    ),
    "adaptive_avg_pool2d to 1": lambda: gradient(lambda x: F.adaptive_avg_pool2d(x, 1), IMAGES),
    "max_pool2d": lambda: gradient(lambda x: F.max_pool2d(x, 3, 2, 1), (16, 64, 56, 56)),
    "conv2d": lambda: gradient(
        lambda x, w: F.conv2d(x, w, padding=1), (32, 64, 28, 28), (64, 64, 3, 3)
    ),
    "batch_norm": lambda: gradient(lambda x: F.batch_norm(x, None, None, training=True), IMAGES),
    "matmul": lambda: gradient(torch.matmul, (512, 1024), (1024, 512)),
    "cross_entropy of pixels": lambda: gradient(
        lambda x: F.cross_entropy(
            x, torch.arange(32 * 64 * 64, device=DEVICE).view(32, 64, 64) % 8
        ),
        (32, 8, 64, 64),
    ),
    "interpolate bilinear": lambda: gradient(
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (8, 16, 32, 32)
    ),
    "interpolate nearest": lambda: gradient(
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), (8, 16, 32, 32)
    ),
    "grid_sample": lambda: gradient(
        lambda x, g: F.grid_sample(x, g.tanh(), align_corners=False), (8, 3, 64, 64), (8, 64, 64, 2)
    ),
    "embedding": lambda: gradient(
        lambda w: F.embedding(torch.arange(20000, device=DEVICE) % 50, w), (50, 64)
    ),
    "lstm": lambda: lstm(),  # noqa: PLW0108 - it is defined below
    "cumsum": lambda: gradient(lambda x: x.cumsum(1), (64, 4096)),
    "index_put": lambda: gradient(
        lambda x: torch.zeros(10, 64, device=DEVICE).index_put(
            (torch.arange(4096, device=DEVICE) % 10,), x, accumulate=True
        ),
        (4096, 64),
    ),
    "ctc_loss": lambda: gradient(ctc, (50, 16, 20)),
}


def lstm():
    torch.manual_seed(0)
    net = torch.nn.LSTM(64, 64, 2, batch_first=True).to(DEVICE)
    out = net(torch.randn(16, 30, 64, device=DEVICE))[0]
    out.sum().backward()
    return [out, *(p.grad for p in net.parameters())]


def ctc(x):
    targets = torch.arange(16 * 10, device=DEVICE).view(16, 10) % 19 + 1
    lengths = torch.full((16,), 50, device=DEVICE), torch.full((16,), 10, device=DEVICE)
    return F.ctc_loss(x.log_softmax(2), targets, *lengths)


def look(function):
    """Return what an operation did in `TIMES` repetitions, and its warning."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found = {digest(function()) for _ in range(TIMES)}
        except RuntimeError as error:
            return {"error": str(error)[:120]}
    alarm = any("deterministic" in str(warning.message) for warning in heard)
    return {"repeatable": len(found) == 1, "warns": alarm}


if __name__ == "__main__":
    print(json.dumps({name: look(function) for name, function in OPERATIONS.items()}))
