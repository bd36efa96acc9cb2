# The image of the loader. The Docker engine that it loads images into is the host's, which it reaches through a socket.
# `make image` builds it, with the version in its label. deploy/compose.yaml shows how to run it.

# This stage has everything that only the installation needs.
FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements.lock .
# Only wheels are installed, because a source package would run code of its own during the build.
RUN python -m pip install --no-cache-dir --no-compile --require-hashes --only-binary=:all: \
    --root-user-action=ignore --disable-pip-version-check --target packages -r requirements.lock \
    && rm -rf packages/bin packages/*/tests packages/*/SelfTest
COPY pyproject.toml requirements.txt LICENSE source/
COPY loader source/loader
COPY deploy source/deploy
# The package is built with the setuptools of the base image, without a download. The health check stands alone, because
# it must start faster than a command can.
RUN python -m pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --no-index \
    --root-user-action=ignore --disable-pip-version-check --target packages ./source \
    && install -D packages/share/azaion-loader/deploy/healthcheck.py application/healthcheck.py \
    && rm -r packages/share packages/bin/azaion-resource-api
# The modes are set because a checkout made with a strict umask is unreadable for other users. Bytecode is made here,
# because nothing is written at run time.
RUN chmod -R u=rwX,go=rX packages application \
    && python -m compileall -q --invalidation-mode unchecked-hash packages application

FROM python:3.11-slim
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Azaion Loader" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.vendor="Azaion" \
    org.opencontainers.image.licenses="LicenseRef-Azaion-Proprietary"
# The user is a number, so that no entry in /etc/passwd is needed. `--group-add` adds the group of the Docker socket.
# New volumes get their owner and mode from these directories.
RUN install -d -o 10001 -g 10001 -m 0700 /opt/azaion /opt/azaion/models \
    && install -d -o 10001 -g 10001 -m 0750 /run/azaion-loader
WORKDIR /srv/azaion-loader
COPY --from=build /build/packages packages
COPY --from=build /build/application .
# The loader listens on all addresses, because nobody outside the container reaches its loopback address. Publish the
# port to the loopback address of the host only.
ENV PATH=/srv/azaion-loader/packages/bin:$PATH \
    PYTHONPATH=/srv/azaion-loader/packages \
    PYTHONDONTWRITEBYTECODE=1 \
    LOADER_BIND=0.0.0.0:8080
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["python", "healthcheck.py"]
# After SIGTERM gunicorn gives requests and an unlock 30 seconds to end, so let `docker stop` wait for 40.
STOPSIGNAL SIGTERM
CMD ["azaion-loader", "serve"]
