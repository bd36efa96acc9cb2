# The loader alone: the Docker engine it loads images into is the host's, reached through its socket.
FROM python:3.11-slim
WORKDIR /srv/azaion-loader
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY loader loader
COPY wsgi.py gunicorn.conf.py ./
# Reached through the published port; inside the container loopback would reach nobody.
ENV LOADER_BIND=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
