# The hub, with device-agent and device-sim beside it. Everything comes from the locks; nothing is resolved here.

FROM node:22.23.1-bookworm-slim AS page
WORKDIR /source/dashboards/web
COPY dashboards/web/package.json dashboards/web/package-lock.json dashboards/web/.npmrc ./
RUN npm ci
COPY dashboards/web ./
COPY docs/clients /source/docs/clients
RUN npm run build


FROM python:3.11.14-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements/build.txt requirements/hub.txt requirements/
RUN python -m venv --without-pip /opt/telemetry-hub \
    && pip --python /opt/telemetry-hub install --no-compile --require-hashes --requirement requirements/hub.txt \
    && pip install --no-compile --require-hashes --requirement requirements/build.txt
COPY pyproject.toml hatch_build.py README.md CHANGELOG.md LICENSE ./
COPY wire wire
COPY formats formats
COPY integrity integrity
COPY device_agent device_agent
COPY device_sim device_sim
COPY agent_client agent_client
COPY importer importer
COPY hub hub
COPY --from=page /source/hub/http/static hub/http/static
# Files for the packages' own tests and for compilers are removed. The compiled files are never checked again: the image's
# root can be read-only, and the same sources give the same bytes.
RUN pip wheel --no-build-isolation --no-deps --wheel-dir dist . \
    && pip --python /opt/telemetry-hub install --no-compile --no-deps dist/*.whl \
    && find /opt/telemetry-hub/lib -depth -type d \( -name tests -o -path '*/pyarrow/include' \) -exec rm -r {} + \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/telemetry-hub/lib


FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="Telemetry Hub" \
      org.opencontainers.image.description="Takes in readings from devices, acknowledges what is on disk, stores it, and shows it live" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
RUN groupadd --gid 10001 hub \
    && useradd --uid 10001 --gid hub --home-dir /data --no-create-home --shell /usr/sbin/nologin hub \
    && install -d -o hub -g hub -m 0700 /data
COPY --from=packages /opt/telemetry-hub /opt/telemetry-hub
COPY deploy/health.py /opt/telemetry-hub/health.py
ENV PATH=/opt/telemetry-hub/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HUB_DATA=/data \
    HUB_LISTEN=0.0.0.0:8600
USER hub
WORKDIR /data
VOLUME /data
EXPOSE 8600
STOPSIGNAL SIGTERM
# Without -S, Python would first search every installed package.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["python", "-S", "/opt/telemetry-hub/health.py"]
ENTRYPOINT ["hub"]
CMD ["run"]
