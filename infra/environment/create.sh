#!/bin/sh
# Make .venv, or bring it up to date: called by the Makefile before anything that needs it.
#
# What was installed is noted in a stamp, written last: an interrupted installation is continued, and
# a finished one is recognised in milliseconds. Variables: PYTHON (a Python 3.11), GPU=1 (Horovod with
# NCCL), VENV (folder, default .venv).
set -eu

cd "$(dirname "$0")/../.."
venv="${VENV:-.venv}"
stamp="$venv/trainyard-stamp"
log="$venv/install.log"

stop() {
    printf 'trainyard: %s\n' "$*" >&2
    exit 1
}

# The folder is part of it: an environment that was moved has wrong paths inside.
wanted() {
    { pwd; echo "gpu=${GPU:-}"; cat requirements.lock pyproject.toml infra/horovod/build.py; } |
        sha256sum | cut -d' ' -f1
}

is_311() {
    [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.11 ]
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_311 "$PYTHON" || stop "PYTHON=$PYTHON is not Python 3.11 ($("$PYTHON" --version 2>&1 || true)); name one that is."
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3; do
        if command -v "$candidate" >/dev/null 2>&1 && is_311 "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    found="$(python3 --version 2>/dev/null || echo 'no python3')"
    stop "Python 3.11 is needed, and only $found was found: install it (apt-get install python3.11 python3.11-venv python3.11-dev), or name one with PYTHON=/path/to/python3.11."
}

# Run a step with its output in the log; say what it is, how long it may take, and how long it took.
step() {
    title="$1"
    shift
    printf '%s … ' "$title"
    began=$(date +%s)
    if "$@" >>"$log" 2>&1; then
        printf 'done (%s s)\n' "$(($(date +%s) - began))"
    else
        printf 'failed\n'
        tail -n 15 "$log" >&2
        case "$(tail -n 40 "$log")" in
        *"No space left"*) stop "The disk is full. Free some space and run the same command again; it continues." ;;
        esac
        stop "$title: failed. All of the output: $log. Run the same command again to continue."
    fi
}

install_packages() {
    grep -v '^horovod==' requirements.lock >"$venv/requirements.txt"
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        -r "$venv/requirements.txt"
}

install_horovod() {
    wheel="$("$venv/bin/python" -m infra.horovod.build ${GPU:+--gpu-operations nccl})" || return 1
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps --force-reinstall "$wheel"
}

install_trainyard() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
}

[ -f requirements.lock ] || stop "requirements.lock is missing; this is not a complete checkout."
command -v sha256sum >/dev/null || stop "sha256sum is missing (apt-get install coreutils)."
if [ -f "$stamp" ] && [ -x "$venv/bin/python" ] && [ "$(cat "$stamp")" = "$(wanted)" ]; then
    exit 0
fi

python="$(find_python)"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    stop "$python has no venv or ensurepip: apt-get install python3.11-venv, or name a complete Python with PYTHON=."
command -v g++ >/dev/null || [ -n "${CXX:-}" ] ||
    stop "A C++ compiler is needed to build Horovod: apt-get install g++ make (or gcc and g++ of your system)."
command -v make >/dev/null || stop "make is needed to build Horovod: apt-get install make."
"$python" -c 'import sys, sysconfig, os; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    stop "Python's headers are needed to build Horovod: apt-get install python3.11-dev."

mkdir -p "$venv" 2>/dev/null || stop "$venv cannot be made here: $(pwd) is not writable."
[ -w "$venv" ] || stop "$venv is not writable by $(id -un)."
# One installation at a time; a second caller waits and then finds the work done.
if command -v flock >/dev/null && [ -z "${TRAINYARD_LOCKED:-}" ]; then
    TRAINYARD_LOCKED=1 exec flock "$venv.lock" sh infra/environment/create.sh
fi

if [ ! -x "$venv/bin/pip" ]; then
    free_mib=$(df -Pm "$venv" | awk 'NR == 2 { print $4 }')
    [ "$free_mib" -ge 6000 ] || stop "The disk is nearly full: $free_mib MiB free for $venv, 6000 MiB needed."
fi
if ! { [ -x "$venv/bin/python" ] && is_311 "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
    echo "Making the Python environment in $venv (about 4 minutes of downloads and installation, 2 more for Horovod the first time; log: $log)"
    rm -rf "$venv/bin" "$venv/lib" "$venv/lib64" "$venv/include" "$venv/pyvenv.cfg"
    "$python" -m venv "$venv" || stop "The environment could not be made in $venv; see the message above."
fi
rm -f "$stamp"
: >"$log"
packages=$(grep -c '==' requirements.lock)
step "[1/3] $packages packages, about 3 minutes" install_packages
step "[2/3] Horovod, about 2 minutes unless it is cached" install_horovod
step "[3/3] Trainyard itself" install_trainyard
wanted >"$stamp"
