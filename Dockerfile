# syncd in a container: the configuration is /data/config.yaml, the ledger lies beside it, files are dropped in /inbox.
#   docker run -v syncd-data:/data -v ./inbox:/inbox -e ZENTRIK_API_KEY syncd
FROM python:3.12-slim AS build
COPY . /source
RUN python -m venv /opt/syncd && /opt/syncd/bin/pip install --no-cache-dir "/source[postgresql]"

FROM python:3.12-slim
COPY --from=build /opt/syncd /opt/syncd
RUN useradd --uid 10001 --no-create-home syncd && mkdir /data /inbox && chown syncd /data /inbox
USER syncd
WORKDIR /data
VOLUME ["/data", "/inbox"]
ENV PATH=/opt/syncd/bin:$PATH PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["syncd"]
CMD ["run"]
