# diffcf for a processor:   docker build -t diffcf .
# and for NVIDIA cards:     docker build -t diffcf:card --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#
#   docker run --rm --network none -v "$PWD:/work" diffcf counterfactual pendulum IMAGE --do light=1.2 --out answers
#   docker run --rm --network none --gpus all -v "$PWD:/work" diffcf:card \
#       fit --config /opt/diffcf/experiments/pendulum.yaml --config /opt/diffcf/experiments/gpu.yaml
#
# The network is needed to build it and never to run it. PyTorch's wheels bring CUDA's libraries, so both
# take the same plain BASE; the card needs its driver and the NVIDIA container toolkit on the host.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /opt/diffcf
RUN pip install --no-cache-dir 'torch>=2.9,<2.14' --index-url "${TORCH_INDEX}"
COPY pyproject.toml MANIFEST.in README.md LICENSE ./
COPY diffcf diffcf
COPY data_modules data_modules
COPY experiments experiments
# Editable, so that the shipped weights stay where they lie.
RUN pip install --no-cache-dir -e '.[parquet]'

# NVIDIA_*: what the container toolkit lets in; nothing without it.
ENV HF_HUB_OFFLINE=1 WANDB_MODE=offline NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home diffcf && mkdir /work && chown diffcf /work
USER diffcf
WORKDIR /work
ENTRYPOINT ["diffcf"]
CMD ["--help"]
