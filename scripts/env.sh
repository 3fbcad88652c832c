# Sourced by the scripts beside it: where the tools are. Installs nothing, prints nothing.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"
LLVM=/usr/lib/llvm-22
RUST_MINIMUM=1.95

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Whether this compiler is at least the minimum of Cargo.toml.
new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | awk '{print $2}') || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -1)" = "$RUST_MINIMUM" ]
}

# The compiler on the PATH where it is new enough, Debian's rustc-web otherwise.
if new_enough rustc && has cargo; then
    CARGO=cargo
else
    CARGO=/usr/bin/cargo
    export RUSTC=/usr/bin/rustc
fi

# The folder of the compiler that builds the eBPF programs, chosen as ebpf-redirect/build.rs does: the first of Debian's and
# rustup's nightly that has the sources of `core`. Fails where neither has.
programs_compiler() {
    local folder nightly
    nightly=$(rustup which --toolchain nightly rustc 2>/dev/null || true)
    for folder in /usr/bin "${nightly%/rustc}"; do
        [ -x "$folder/rustc" ] && [ -x "$folder/cargo" ] &&
            [ -d "$("$folder/rustc" --print sysroot)/lib/rustlib/src/rust/library/core" ] || continue
        echo "$folder"
        return
    done
    return 1
}
