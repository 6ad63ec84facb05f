#!/bin/sh
# The final weights are a function of the config: the number of actors, of threads and of slots, and
# the size of messages change nothing, nor does one log-prob differ between actors and learner.
. tests/e2e/lib.sh
make_config 6

run one --set actors.count=1 || fail "one actor: exit code $?"
hash=$(field "$work/one.json" weights_hash)
same "${#hash}" 32 "length of the weights hash"
check_run one "$hash"
say "one actor: $hash"

check() { # name, settings…
    run "$@" || fail "$1: exit code $?"
    check_run "$1" "$hash"
    same "$(field "$work/$1.json" accuracy_after)" "$(field "$work/one.json" accuracy_after)" "$1: accuracy after"
    say "ok: $*"
}
check two-actors --set actors.count=2
check four-actors --set actors.count=4
check learner-1 --set learner.threads=1
check learner-2 --set learner.threads=2
check actors-1 --set actors.count=1 --set actors.threads=1
check actors-2 --set actors.count=1 --set actors.threads=2
check few-slots --set actors.slots=3
check small-chunks --set coordinator.chunk_bytes=5000 --set coordinator.window=2

# The hash must be able to tell runs apart.
run other --set seed=2 || fail "another seed: exit code $?"
[ "$(field "$work/other.json" weights_hash)" != "$hash" ] || fail "another seed gives the same weights"
say "ok: another seed gives other weights"
