# Sourced by scripts/cluster: processes that outlive it, known by their ids.
# shellcheck shell=bash disable=SC2154

# launch NAME COMMAND…: starts a process of a session of its own, with its output in log/NAME.log and its id in run/NAME.pid.
launch() {
    local name=$1
    shift
    (
        exec >"$state/log/$name.log" 2>&1 </dev/null 9>&-
        # Before it becomes the program, so that no process is ever unknown.
        note "$name" "$BASHPID"
        exec setsid "$@"
    ) &
    # The same once more, for whoever asks before that.
    note "$name" $!
    # Nobody waits for it; it is told to end by its id.
    disown
}

# An id may be another's after a while, or after a reboot; with its start it is not.
note() { printf '%s %s\n' "$2" "$(started "$2")" >"$state/run/$1.pid"; }

# When a process was started, in ticks since the machine was; nothing of one that is gone.
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# The id of a process that was launched, if it is still that one.
pid_of() {
    local pid since
    read -r pid since 2>/dev/null <"$state/run/$1.pid" || return 1
    [ "$(started "$pid")" = "$since" ] && echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# halt NAME [SIGNAL]: ends it, kindly for ten seconds unless it is to be killed.
halt() {
    local pid tries=100
    if pid=$(pid_of "$1"); then
        kill "-${2:-TERM}" "$pid" 2>/dev/null || true
        while alive "$1"; do
            [ $((tries -= 1)) -gt 0 ] || kill -KILL "$pid" 2>/dev/null || true
            [ "$tries" -gt -100 ] || die "process $pid ($1) does not end"
            sleep 0.1
        done
    fi
    rm -f "$state/run/$1.pid"
}

# wait_for WHAT SECONDS NAME COMMAND…: until the command succeeds. Fails where process NAME has ended, or after the time; shows its log.
wait_for() {
    local what=$1 until=$((SECONDS + $2)) name=$3
    shift 3
    say "waiting for $what"
    until "$@" >/dev/null 2>&1; do
        if ! alive "$name"; then
            tail -n 15 "$state/log/$name.log" >&2
            die "$name has ended; all of it: $state/log/$name.log"
        fi
        if [ "$SECONDS" -ge "$until" ]; then
            tail -n 15 "$state/log/$name.log" >&2
            die "no $what in time; the log of $name: $state/log/$name.log"
        fi
        sleep 0.2
    done
}
