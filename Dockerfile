# One image for GPU and CPU: CUDA builds of torch also run on the CPU, so CI tests the
# digest that later runs on GPUs. `invoke build` passes the arguments. Uses only features
# of Dockerfile syntax 1.2, so that engine 20.10 can build it.
ARG BASE
ARG CUDA=cuda13

# --- the build's tools, from their lock file; bind-mounted below, so not in the image
FROM ${BASE} AS tools
# Without pip's download cache, the stage is the same everywhere.
RUN --mount=type=bind,source=docker/tools.txt,target=/tmp/tools.txt \
    --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/tools.txt

# --- the image ------------------------------------------------------------------
FROM ${BASE} AS image
ARG CUDA
# Every file gets this time and bytecode is hash-based, so a rebuild gives the same
# layers.
ARG SOURCE_DATE_EPOCH
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    UV_PYTHON_DOWNLOADS=never

# Layer 1: CUDA libraries and torch, several gigabytes. They have their own lock file, so
# changes to other dependencies do not affect this layer. `cpu` is the variant without CUDA;
# its lock file names a second index. The index strategy is safe, because hashes decide.
RUN --mount=type=bind,from=tools,source=/tools/bin/uv,target=/usr/local/bin/uv \
    --mount=type=bind,source=docker/install-packages.sh,target=/run/install-packages \
    --mount=type=bind,source=docker/left-out.txt,target=/run/left-out \
    --mount=type=bind,source=docker/torch,target=/run/torch \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=tmpfs,target=/tmp \
    --mount=type=secret,id=ca \
    uv venv --no-project --python python3 /opt/venv \
    && VIRTUAL_ENV=/opt/venv UV_LINK_MODE=copy UV_HTTP_TIMEOUT=300 sh /run/install-packages \
    uv pip install --no-deps --require-hashes --index-strategy unsafe-best-match -r "/run/torch/$CUDA.txt"

# Layer 2: the other dependencies, frozen by uv.lock, and the list of the image's contents,
# in samerun's format and as a software bill of materials.
RUN --mount=type=bind,from=tools,source=/tools/bin/uv,target=/usr/local/bin/uv \
    --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,source=docker/install-packages.sh,target=/run/install-packages \
    --mount=type=bind,source=docker/left-out.txt,target=/run/left-out \
    --mount=type=bind,source=docker/describe.py,target=/run/describe.py \
    --mount=type=bind,source=pyproject.toml,target=/run/project/pyproject.toml \
    --mount=type=bind,source=uv.lock,target=/run/project/uv.lock \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=tmpfs,target=/tmp \
    --mount=type=secret,id=ca \
    uv export --project /run/project --frozen --quiet --only-group image --prune torch --prune torchvision \
    --no-emit-project --output-file /tmp/image.txt \
    && VIRTUAL_ENV=/opt/venv UV_LINK_MODE=copy UV_HTTP_TIMEOUT=300 sh /run/install-packages \
    uv pip install --no-deps --require-hashes -r /tmp/image.txt \
    && mkdir -p /opt/samerun \
    && PYTHONDONTWRITEBYTECODE=1 /tools/bin/cyclonedx-py environment --output-reproducible --output-file /tmp/sbom.json /opt/venv/bin/python \
    && PYTHONDONTWRITEBYTECODE=1 /opt/venv/bin/python /run/describe.py "$CUDA" /tmp/sbom.json /opt/samerun \
    && find /opt -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

# Layer 3: samerun's code. It is copied with cp, not COPY, so that the checkout's file times
# and modes do not get into the layer. The layer also says what the image was built from; the
# labels say so too, but a container can't read the labels of its image.
ARG BASE_REFERENCE
ARG BASE_ORIGIN
RUN --mount=type=bind,source=src/samerun,target=/run/samerun \
    --mount=type=bind,source=uv.lock,target=/run/uv.lock \
    --mount=type=bind,source=docker/install-code.sh,target=/run/install-code \
    sh /run/install-code

# Containers started by hand get the same environment as those from `invoke train`.
ENV HOME=/tmp/home USER=samerun LOGNAME=samerun \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/home/matplotlib XDG_CACHE_HOME=/tmp/home/cache \
    TORCH_HOME=/tmp/home/torch FASTAI_HOME=/tmp/home/fastai \
    WANDB_DIR=/output WANDB_CACHE_DIR=/tmp/home/wandb WANDB_DATA_DIR=/output/wandb/data \
    PYTHONWARNINGS="ignore:`torch.jit.script` is deprecated:FutureWarning" \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility CUDA_DEVICE_ORDER=PCI_BUS_ID
# GKE mounts the driver here and adds it to no path. Elsewhere the folders do not exist.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64 PATH=$PATH:/usr/local/nvidia/bin
# Never root; `invoke train` passes the caller's uid and gid.
USER 1000:1000
WORKDIR /output
ENTRYPOINT ["python", "-P", "-m", "samerun.train"]

# --- the same image with pytest added, for the tests that run inside ------------
FROM image AS test
USER 0:0
ARG SOURCE_DATE_EPOCH
RUN --mount=type=bind,from=tools,source=/tools/bin/uv,target=/usr/local/bin/uv \
    --mount=type=bind,source=docker/install-packages.sh,target=/run/install-packages \
    --mount=type=bind,source=docker/left-out.txt,target=/run/left-out \
    --mount=type=bind,source=pyproject.toml,target=/run/project/pyproject.toml \
    --mount=type=bind,source=uv.lock,target=/run/project/uv.lock \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=tmpfs,target=/tmp \
    --mount=type=secret,id=ca \
    UV_PROJECT_ENVIRONMENT=/opt/venv UV_LINK_MODE=copy sh /run/install-packages \
    uv sync --project /run/project --frozen --inexact --no-install-project --only-group image-test
USER 1000:1000
ENTRYPOINT ["python", "-m", "pytest", "-p", "no:cacheprovider"]

# The default target of `docker build .`.
FROM image
