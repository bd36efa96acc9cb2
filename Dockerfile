# The loader alone: the Docker engine it loads images into is the host's, reached through its socket.
# `make image` builds it, with the version in its label. deploy/compose.yaml shows how to run it.

# What is needed to install stays behind in this stage.
FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements.lock .
# Wheels only: nothing of a package runs before it is part of the image.
RUN python -m pip install --no-cache-dir --no-compile --require-hashes --only-binary=:all: \
    --root-user-action=ignore --disable-pip-version-check --target packages -r requirements.lock \
    && rm -rf packages/bin packages/*/tests packages/*/SelfTest
COPY loader application/loader
COPY wsgi.py gunicorn.conf.py deploy/healthcheck.py application/
# A checkout of a careful umask is unreadable for others. Bytecode is made once, here: at run time nothing is written.
RUN chmod -R u=rwX,go=rX packages application \
    && python -m compileall -q --invalidation-mode unchecked-hash packages application

FROM python:3.11-slim
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Azaion Loader" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.vendor="Azaion" \
    org.opencontainers.image.licenses="LicenseRef-Azaion-Proprietary"
# A number, so that no one needs a list of users. The group of the host's Docker socket comes with `--group-add`.
# New volumes take owner and mode from these directories.
RUN install -d -o 10001 -g 10001 -m 0700 /opt/azaion /opt/azaion/models \
    && install -d -o 10001 -g 10001 -m 0750 /run/azaion-loader
WORKDIR /srv/azaion-loader
COPY --from=build /build/packages packages
COPY --from=build /build/application .
# Inside a container loopback would reach nobody: publish the port to the host's loopback only.
ENV PYTHONPATH=/srv/azaion-loader/packages \
    PYTHONDONTWRITEBYTECODE=1 \
    LOADER_BIND=0.0.0.0:8080
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["python", "healthcheck.py"]
# gunicorn lets requests and an unlock end for 30 seconds after it: let `docker stop` wait for 40.
STOPSIGNAL SIGTERM
CMD ["python", "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
