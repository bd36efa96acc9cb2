#!/bin/sh
# Loads a model to a file: waits for the loader, continues a cut load, does nothing if the model has not changed.
#   LOADER_URL=http://127.0.0.1:8080 sh load_model.sh day/model.onnx /run/models/model.onnx
# For a loader on a unix socket: LOADER_URL=http://localhost LOADER_SOCKET=/run/azaion-loader/loader.sock
set -eu
umask 077
url=${LOADER_URL:-http://127.0.0.1:8080}/models/$1 file=$2 part=$2.part
curl() { command curl -sSf ${LOADER_SOCKET:+--unix-socket "$LOADER_SOCKET"} "$@"; }
size_of() { if [ -e "$1" ]; then wc -c <"$1"; else echo 0; fi; }

until curl -o /dev/null "${url%%/models/*}/ready" 2>/dev/null; do sleep 2; done
head=$(curl --retry 5 -I "$url")
field() { echo "$head" | tr -d '\r' | sed -n "s/^$1: //p"; }
etag=$(field '[Ee][Tt]ag') size=$(field '[Cc]ontent-[Ll]ength')

if [ -e "$file" ] && [ "$etag" = "$(cat "$file.etag" 2>/dev/null)" ]; then exit 0; fi
if [ "$etag" != "$(cat "$part.etag" 2>/dev/null)" ]; then rm -f "$part" && echo "$etag" >"$part.etag"; fi
while [ "$(size_of "$part")" -lt "$size" ]; do
    # Exit code 33: the model has just changed, so the bytes that are here cannot be continued, and all starts again.
    curl -C - -H "If-Range: $etag" -o "$part" "$url" || { [ $? -ne 33 ] || exec sh "$0" "$@"; sleep 2; }
done
[ "$(size_of "$part")" -eq "$size" ]
mv "$part" "$file" && mv "$part.etag" "$file.etag"
