#!/bin/sh
# What a CI machine runs: a browser for the site's gate if there is none, then everything that `make test` and
# `make check` do.
set -eu
cd "$(dirname "$0")/.."
export CI=true
if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1 \
  && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "ci: installing Chromium"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; } \
    >/dev/null 2>&1 || echo "ci: Chromium could not be installed" >&2
fi
make test
exec make check
