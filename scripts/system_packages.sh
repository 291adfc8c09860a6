#!/usr/bin/env bash
# Installs the Debian packages that the environments need, only those that are missing.
set -euo pipefail

# ldconfig is not on the path of an ordinary user.
PATH=$PATH:/usr/sbin:/sbin
python=${1:?usage: system_packages.sh PYTHON}
missing=()

has_library() { ldconfig -p | grep -q "$1"; }

# A Debian Python without python3.X-venv has the venv module but no ensurepip to fill it.
if ! command -v "$python" >/dev/null; then
    missing+=(python3.11 python3.11-venv)
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    missing+=(python3.11-venv)
fi
# MediaPipe opens these at import.
has_library 'libGL\.so\.1' || missing+=(libgl1)
has_library 'libEGL\.so\.1' || missing+=(libegl1)
has_library 'libGLESv2\.so\.2' || missing+=(libgles2)

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing system packages, and neither root nor sudo to install them:" >&2
        echo "  apt-get install ${missing[*]}" >&2
        exit 1
    fi
    sudo=(sudo)
fi
echo "installing ${missing[*]}"
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
