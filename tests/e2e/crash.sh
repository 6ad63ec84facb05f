#!/bin/sh
# kill -9 of any role at any moment: the run goes on by itself and ends with the same weights.
. tests/e2e/lib.sh
steps=16
make_config $steps
run calm || fail "the undisturbed run: exit code $?"
hash=$(field "$work/calm.json" weights_hash)
check_run calm "$hash"

# A moment may fall behind the end of a run on a machine with other work: then once more.
kill_role() { # role, attempt
    name=$1-$2
    after=$(($(random $((steps / 2))) + 1))
    pause=0.0$(random 10)
    start "$name"
    if wait_step "$name" "$after"; then
        sleep "$pause"
        victim=$(role_process "$work/$name" "$1") && kill -9 "$victim" 2>/dev/null && killed=yes
    fi
    wait "$started"
    same $? 0 "$name: exit code"
    [ "${killed:-}" = yes ] || return 1
    check_run "$name" "$hash"
    [ "$(field "$work/$name.json" restarts)" -ge 1 ] || return 1
    same "$(field "$work/$name.json" steps)" $steps "$name: steps"
    same "$(query "$work/$name" 'SELECT count(*) FROM steps')" $steps "$name: rows of steps"
    same "$(query "$work/$name" "SELECT count(*) FROM trajectories WHERE kind = 'base'")" \
        $((steps * 16)) "$name: trajectories"
    same "$(query "$work/$name" "SELECT count(*) FROM leases WHERE fate IS NULL")" 0 "$name: leases without an end"
    same "$(query "$work/$name" "SELECT count(*) FROM trajectories WHERE kind = 'base' AND fate <> 'trained'")" 0 \
        "$name: trajectories of another fate"
    say "ok: $1 killed ${pause} s after step $after"
}
for role in actor learner coordinator; do
    killed=
    kill_role $role 1 || kill_role $role 2 || kill_role $role 3 || fail "no $role could be killed in time"
done
