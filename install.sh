#!/usr/bin/env bash
# Install this package into .venv: install.sh [WHAT PIP INSTALLS]
#
#   install.sh                  what prediction needs: wheels alone, nothing is compiled
#   install.sh -e '.[gpaw]'     GPAW as well, which is compiled here, and what that needs
#   install.sh -e '.[test]'     all that the tests need, GPAW included
#
# Debian's packages that are missing come first (as root, or by sudo), then a virtual environment, then Python's packages
# in the versions of constraints.txt.  Nothing is done twice.
set -euo pipefail
cd "$(dirname "$0")"

supported() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

missing() {  # those of the packages that are not installed
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q ' installed$' || echo "$package"
    done
}

install_debian_packages() {
    local packages
    mapfile -t packages < <(missing "$@")
    [ ${#packages[@]} -gt 0 ] || return 0
    local root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null || { echo "Neither root nor sudo here; please install: ${packages[*]}" >&2; exit 1; }
        root=(sudo)
    fi
    echo "Debian packages: ${packages[*]}"
    "${root[@]}" apt-get update -qq || echo 'apt-get update failed; going on with the lists that are there' >&2
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "${packages[@]}" > /dev/null
}

python=python3
if command -v apt-get > /dev/null; then
    install_debian_packages python3-venv
    if ! supported python3; then  # Ubuntu 22.04, which has a python3.11 beside it
        python=python3.11
        install_debian_packages python3.11-venv
    fi
    if [ $# -gt 0 ]; then  # for GPAW
        install_debian_packages $python-dev g++ libopenblas-dev libxc-dev libopenmpi-dev openmpi-bin
    fi
fi
supported $python || { echo "Python 3.11 or newer is needed; $python is $($python --version 2>&1)" >&2; exit 1; }
[ -x .venv/bin/pip ] || $python -m venv .venv
export CC=${CC:-g++}  # GPAW's sources are C++, whatever their names end in
[ $# -gt 0 ] || set -- -e .
.venv/bin/pip install -q -c constraints.txt "$@"
