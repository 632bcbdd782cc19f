# An image with the command evr1. Not built by any test: tests/test_package.py checks what it copies and names.
#
#   docker build -t easyvideor1 .
#   docker build -t easyvideor1:cuda --build-arg DEVICE=cuda .
#   docker run --rm -v "$PWD":/data easyvideor1 doctor
#   docker run --rm --gpus all --shm-size 16g -v "$PWD":/data easyvideor1:cuda train run.yaml
#
# DEVICE: cpu or cuda. EXTRAS: extras of the package, such as lora,serve,ray. PIP_OPTIONS: further options of pip, such as
# an index with builds of torch for the CPU, which are much smaller.
ARG DEVICE=cpu

FROM python:3.12-slim AS cpu

# Triton compiles kernels when they first run, and needs a compiler and the headers of Python for that.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM ${DEVICE} AS final
ARG EXTRAS=lora,serve
ARG PIP_OPTIONS=""
ENV PYTHONUNBUFFERED=1 \
    PATH=/opt/evr1/bin:$PATH
WORKDIR /opt/source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python3 -m venv /opt/evr1 \
    && /opt/evr1/bin/python -m pip install --no-cache-dir ${PIP_OPTIONS} ".[${EXTRAS}]" \
    && evr1 --version
# Runs write into the working directory, which is mounted from the machine; they need not be root's.
RUN mkdir -p /data && chmod 777 /data
WORKDIR /data
ENV HOME=/tmp
USER 1000:1000
ENTRYPOINT ["evr1"]
CMD ["--help"]
