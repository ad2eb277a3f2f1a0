#!/usr/bin/env bash
# Tests of the report pages look at them in a browser. Debian's Chromium is installed where that needs no password;
# elsewhere those tests are skipped and say so.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "-- no Chromium here: the tests that look at report pages will be skipped (sudo apt install chromium)"
  exit 0
fi
echo "-- installing Chromium, in which tests look at report pages"
export DEBIAN_FRONTEND=noninteractive
{ apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium; } >/dev/null 2>&1 ||
  echo "-- Chromium cannot be installed: the tests that look at report pages will be skipped"
