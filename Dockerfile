# syncd in a container. The configuration is /etc/syncd/config.yaml; the ledger lies in /data; files are dropped in /inbox.
#
#   docker build --tag syncd:0.1.0 .
#   docker run --rm --read-only --tmpfs /tmp syncd:0.1.0 demo
#   docker run --read-only --tmpfs /tmp --volume syncd-data:/data --volume ./inbox:/inbox \
#     --volume ./config.yaml:/etc/syncd/config.yaml:ro --env ZENTRIK_API_KEY syncd:0.1.0
#
# The base is pinned to a Python and a Debian release, and each build takes the newest patches of both. To have the very
# same image again: --build-arg BASE=python:3.11-slim-bookworm@sha256:... (as `docker images --digests` shows it).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY deploy/constraints.txt deploy/build-constraints.txt ./
# What is installed, and what builds it, is known by its hash; nothing below this step asks an index for anything.
RUN python -m venv tools \
    && tools/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement build-constraints.txt \
    && tools/bin/pip wheel --no-cache-dir --require-hashes --no-deps --no-build-isolation \
        --requirement constraints.txt --wheel-dir wheels
COPY . source
RUN tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir wheels ./source \
    && python -m venv --without-pip /opt/syncd \
    && tools/bin/pip --python /opt/syncd/bin/python install --no-cache-dir --no-index --find-links wheels \
        "syncd[postgresql]"

FROM ${BASE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin syncd \
    && install --directory --owner syncd --group syncd --mode 0750 /data /inbox
COPY --from=build /opt/syncd /opt/syncd
ENV PATH=/opt/syncd/bin:$PATH PYTHONUNBUFFERED=1 SYNCD_CONFIG=/etc/syncd/config.yaml
WORKDIR /data
VOLUME ["/data", "/inbox"]
USER 10001:10001
STOPSIGNAL SIGTERM
# /readyz is red when syncd is stuck though its process lives. Asked inside the container, where the page listens.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection; \
        page = HTTPConnection('127.0.0.1', 8787, timeout=8); \
        page.request('GET', '/readyz'); \
        raise SystemExit(page.getresponse().status != 200)"]
ENTRYPOINT ["syncd"]
CMD ["run"]
