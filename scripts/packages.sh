# Sourced by the scripts beside it: installs system packages, and only those that are missing.
# shellcheck shell=bash

# have PROGRAM: whether it can be run; of an absolute path, whether there is such a file.
have() { command -v "$1" >/dev/null 2>&1 || { [ "${1#/}" != "$1" ] && [ -e "$1" ]; }; }

# as_root COMMAND…: as it is for root, else through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need PROGRAM=PACKAGE…: makes each program available. Without apt it says what is missing and stops.
need() {
  local missing=() pair
  for pair in "$@"; do
    have "${pair%%=*}" || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! have apt-get; then
    echo "missing: ${missing[*]}; install them with your package manager and try again" >&2
    return 1
  fi
  echo "installing: ${missing[*]}" >&2
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_libclang: what reads the headers of V4L2 for cameras; a library, so no program tells whether it is there.
need_libclang() {
  local found
  for found in "${LIBCLANG_PATH:-}"/libclang*.so* /usr/lib/llvm*/lib/libclang*.so* /usr/lib*/libclang*.so* /usr/lib/*/libclang*.so*; do
    [ ! -e "$found" ] || return 0
  done
  need libclang=libclang-dev
}

# need_cargo: Rust is not installed behind your back.
need_cargo() {
  # A fresh rustup puts cargo here, and only a login shell has it on its PATH.
  have cargo || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  have cargo || {
    echo "Rust is missing (1.95 or newer): see https://rustup.rs, then try again" >&2
    return 1
  }
}

# need_component COMMAND=COMPONENT…: makes each `cargo COMMAND` available.
need_component() {
  local pair
  for pair in "$@"; do
    cargo "${pair%%=*}" --version >/dev/null 2>&1 || rustup component add "${pair#*=}"
  done
}
