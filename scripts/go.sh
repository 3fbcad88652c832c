# Sourced by the scripts that build what the tests run and is written in Go. Prints only while something is built.
# shellcheck shell=bash
tools=$root/target/tools
# The Go that the modules ask for. From 1.21 on, Go gets that by itself; an older one can be told to.
GO=go1.26.0

# go_build NAME HOW_LONG MODULE PROGRAM PACKAGE…: builds packages of a module into target/tools, of which PROGRAM is one; a moment
# where they are there already. What was built is known by what it was built from. $go_link is for the linker, beside stripping; with
# `test -c` for $go_verb the package's tests become a program, PACKAGE.test.
go_link=
go_verb=build
go_build() {
    local name=$1 how_long=$2 module=$3 program=$4 stamp go
    shift 4
    has go || die "Go is missing, which builds $name for the tests: apt-get install golang-go"
    stamp=$(find "$module" \( -name 'go.*' -o -name '*.go' \) -print0 | sort -z | xargs -0 cat | sha256sum | cut -d ' ' -f 1)
    if [ -x "$tools/$program" ] && [ "$(cat "$tools/$name.stamp" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    say "building $name ($how_long, once)"
    mkdir -p "$tools"
    rm -f "$tools/$name.stamp"
    go=$(modern_go)
    # shellcheck disable=SC2086
    GOTOOLCHAIN=auto "$go" -C "$module" $go_verb -trimpath -buildvcs=false -ldflags "-s -w $go_link" -o "$tools/" "$@"
    echo "$stamp" >"$tools/$name.stamp"
}

modern_go() {
    local minor
    minor=$(go env GOVERSION)
    minor=${minor#go1.}
    if [ "${minor%%[!0-9]*}" -ge 21 ]; then
        echo go
        return
    fi
    if [ ! -x "$tools/go/bin/go" ]; then
        say "getting $GO by $(go env GOVERSION) (once)" >&2
        local module fetched
        module=golang.org/toolchain@v0.0.1-$GO.$(go env GOOS)-$(go env GOARCH)
        fetched=$(cd / && GOFLAGS=-modcacherw go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
        [ -n "$fetched" ] || die "$module could not be had"
        rm -rf "$tools/go.part"
        cp -r "$fetched" "$tools/go.part"
        # A module's archive does not keep what may be executed.
        chmod -R u+w "$tools/go.part"
        chmod +x "$tools"/go.part/bin/* "$tools"/go.part/pkg/tool/*/*
        mv "$tools/go.part" "$tools/go"
    fi
    echo "$tools/go/bin/go"
}
