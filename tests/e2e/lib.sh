# Common to the end-to-end tests: sourced by each script. $RETAKE is the program under test, $PEEK
# the reader of JSON, SQLite and ports built beside it.
set -u

root=$(pwd)
RETAKE=${RETAKE:-build/release/retake}
PEEK=${PEEK:-$(dirname "$RETAKE")/bin/peek}
case $RETAKE in /*) ;; *) RETAKE=$root/$RETAKE ;; esac
case $PEEK in /*) ;; *) PEEK=$root/$PEEK ;; esac
if [ ! -x "$RETAKE" ] || [ ! -x "$PEEK" ]; then
    echo "there is no $RETAKE or no $PEEK: build first, run from the checkout"
    exit 1
fi
work=$(mktemp -d /tmp/retake-e2e-XXXXXX)

# Processes of a folder: those that name it on their command line. The pattern goes in by stdin, so
# that the search does not find itself.
processes() { # folder
    printf %s "$1" | grep -l -F -f - /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3
}

role_process() { # folder, role → the process of the first such role
    for found in $(processes "$1"); do
        if tr '\0' ' ' <"/proc/$found/cmdline" 2>/dev/null | grep -q "^[^ ]* $2 "; then
            echo "$found"
            return 0
        fi
    done
    return 1
}

clean() {
    status=$?
    trap - EXIT
    for found in $(processes "$work/"); do
        kill -9 "$found" 2>/dev/null
    done
    if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
    exit $status
}
trap clean EXIT
trap 'exit 1' INT TERM

say() { printf '%s\n' "$*"; }

fail() {
    say "FAILED: $*"
    # shellcheck disable=SC2012
    ls -t "$work"/*.err 2>/dev/null | head -2 | while read -r file; do
        say "--- $file"
        tail -20 "$file"
    done
    exit 1
}

same() { # got, expected, what
    [ "$1" = "$2" ] || fail "$3: got \"$1\", expected \"$2\""
}

field() { # file, path → value
    "$PEEK" json "$2" <"$1"
}

query() { # run folder, SQL → rows
    "$PEEK" sql "$1/run.db" "$2"
}

# A private copy of the embedded model: the same for the whole test, whatever happens to the
# original meanwhile. Where its weights are not there, a few steps of training make some.
make_model() {
    mkdir -p "$work/model"
    cp deploy/models/tiny/config.json deploy/models/tiny/tokenizer.json "$work/model/"
    if [ -f deploy/models/tiny/model.safetensors ]; then
        cp deploy/models/tiny/model.safetensors "$work/model/"
    else
        "$RETAKE" sft deploy/models/tiny/sft.yaml --run "$work/seed" --set model.path="$work/model" \
            --set sft.steps=20 --set sft.phase_steps=0 --set eval.problems=0 \
            >/dev/null 2>"$work/seed.err" || fail "could not train a model to test with"
        cp "$work/seed/export/model.safetensors" "$work/model/"
    fi
}

# A small run: seconds, but long enough to be disturbed on the way. Short heartbeats, so that what
# was lost is noticed soon.
make_config() { # steps
    make_model
    config=$work/run.yaml
    cat >"$config" <<END
model: $work/model
task: chain
algorithm:
  name: grpo
  problems: 4
  samples: 4
  updates: 2
steps: $1
coordinator:
  heartbeat_ms: 200
  liveness: 5
eval:
  problems: 16
END
}

run() { # name, options… → runs to the end; $work/NAME.json is the summary
    name=$1
    shift
    "$RETAKE" run "$config" --run "$work/$name" --json "$@" >"$work/$name.json" 2>"$work/$name.err"
}

start() { # name, options… → starts in the background; its process is $started
    name=$1
    shift
    "$RETAKE" run "$config" --run "$work/$name" --json "$@" >"$work/$name.json" 2>"$work/$name.err" &
    started=$!
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# Waits until the run has done so many steps; fails when it ended before.
wait_step() { # name, step
    tries=0
    while :; do
        "$RETAKE" stats "$work/$1" --json --timeout 500 >"$work/stats.json" 2>/dev/null &&
            [ "$(field "$work/stats.json" step)" -ge "$2" ] && return 0
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] && kill -0 "$started" 2>/dev/null || return 1
        sleep 0.05
    done
}

# A number from 0 to limit − 1, other each time; whoever uses it prints it.
random() { # limit
    echo $(($(od -An -N2 -tu2 /dev/urandom) % $1))
}

# Exact equality of a run with the undisturbed one.
check_run() { # name, expected hash
    same "$(field "$work/$1.json" weights_hash)" "$2" "$1: weights hash"
    same "$(field "$work/$1.json" logprob.mismatched)" 0 "$1: log-probs that differ"
    [ "$(field "$work/$1.json" logprob.compared)" -gt 0 ] || fail "$1: no log-probs were compared"
}

# No role may be left behind; a moment is given, for a process that ends needs one.
check_none_left() { # folder, seconds
    tries=0
    while [ -n "$(processes "$1")" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt $(($2 * 10)) ]; then
            for found in $(processes "$1"); do tr '\0' ' ' <"/proc/$found/cmdline"; echo; done
            fail "processes of $1 are left behind"
        fi
        sleep 0.1
    done
}

# One clear sentence on stderr, nothing else: begins with "retake: ", says the words asked for.
check_sentence() { # stderr file, words that must stand there…
    file=$1
    shift
    same "$(grep -c . "$file")" 1 "lines on stderr of $file"
    grep -q '^retake: ' "$file" || fail "$file does not begin with \"retake: \""
    for word in "$@"; do
        grep -q -F -e "$word" "$file" || fail "$file does not say \"$word\": $(cat "$file")"
    done
}

# Runs a command that must be refused.
refused() { # name, exit code, words…, "--", command…
    name=$1 expected=$2
    shift 2
    words=
    while [ "$1" != -- ]; do
        words="$words
$1"
        shift
    done
    shift
    "$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null
    same $? "$expected" "$name: exit code ($(tail -2 "$work/$name.err"))"
    old=$IFS
    IFS='
'
    # shellcheck disable=SC2086
    check_sentence "$work/$name.err" $words
    IFS=$old
    say "ok: $name: $(cat "$work/$name.err")"
}
