# The book's environment as an image, for a machine with an NVIDIA GPU and the container toolkit; without a GPU it runs too.
#   docker build --tag hgi-sam .
#   docker run --rm --gpus all --shm-size 8g --volume "$PWD/runs:/book/runs" --volume "$PWD/_build:/book/_build" \
#     --volume /data:/data:ro hgi-sam make book PROFILE=paper RSNA=/data/rsna-2019 CT_ICH=/data/ct-ich
FROM python:3.11-slim-bookworm

# of Debian's stable release, which changes by security fixes only
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends chromium g++ git make \
  && rm -rf /var/lib/apt/lists/*

WORKDIR /book
COPY . .
# torch comes with the CUDA libraries that it was built for; the driver is the host's
RUN make environment && rm -rf /root/.cache
ENV PATH="/book/.venv/bin:$PATH"

CMD ["make", "book"]
