#!/usr/bin/env python3
"""Recomputes a run with resets on the task chain from its raw trajectories, sharing no code with
retake: thoughts, grades, first wrong thoughts, seeds, cuts, groups, advantages, masks and fates.

    python3 tests/oracles/resets_check.py RUN

Needs only Python's standard library. Prints one line, or the first difference and exits with 1.
"""
import collections
import json
import math
import pathlib
import re
import sqlite3
import struct
import sys

from run_folder import config_of, philox

DELIMITER = "</thought>"
FRESH_END, CONTINUATIONS, LOCALIZATIONS = 32, 32, 64  # sample numbers within a problem
DRAW = 1 << 40  # the index of a random reset


def below(seed, stream, index, bound):
    words = philox(seed, stream, index)
    return ((words[0] << 32 | words[1]) * bound) >> 64


class Decoder:
    """Token ids to bytes, from a byte-level tokenizer.json."""

    def __init__(self, path):
        kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
        table, extra = {}, 0
        for byte in range(256):
            table[chr(byte) if byte in kept else chr(256 + extra)] = byte
            extra += byte not in kept
        form = json.loads(pathlib.Path(path).read_text())
        self.pieces = {i: bytes(table[c] for c in text) for text, i in form["model"]["vocab"].items()}
        self.special = set()
        for token in form["added_tokens"]:
            self.pieces[token["id"]] = token["content"].encode()
            self.special.add(token["id"])

    def __call__(self, ids):
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")


def parse_problem(prompt):
    numbers = re.fullmatch(r"Q:(\d+)((?:[-+*]\d+)*)\s*", prompt)
    return int(numbers[1]), [(s[0], int(s[1:])) for s in re.findall(r"[-+*]\d+", numbers[2])]


def apply(value, op, operand, modulus):
    return {"+": value + operand, "-": value - operand, "*": value * operand}[op] % modulus


def first_wrong(prompt, thoughts, modulus):
    """1 for the first thought; 0: none is wrong."""
    value, steps = parse_problem(prompt)
    while thoughts and not thoughts[-1].strip():
        thoughts = thoughts[:-1]
    for i, thought in enumerate(thoughts):
        if i >= len(steps):
            return i + 1
        op, operand = steps[i]
        right = apply(value, op, operand, modulus)
        form = rf"\s*{value}{re.escape(op)}{operand}={right}\s*"
        if i == len(steps) - 1:
            form += rf"(?:\\boxed\{{{right}\}}\s*)?"
        if not re.fullmatch(form, thought):
            return i + 1
        value = right
    return 0


def parse_localization(text, n):
    """(thought, whether it was unreadable): the last box, the last named step, else 1."""
    boxes = re.findall(r"\\boxed\{([^{}]*)\}", text)
    if boxes and re.fullmatch(r"\s*[-+]?\d+\s*", boxes[-1]) and 0 <= int(boxes[-1]) <= n:
        return int(boxes[-1]), False
    named = re.findall(r"[Ss]tep\s*(\d+)", text)
    if named and 1 <= int(named[-1]) <= n:
        return int(named[-1]), False
    return 1, True


def advantages(rewards, ddof=0, eps=0.0, zero_below=1e-8):
    mean = sum(rewards) / len(rewards)
    sigma = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - ddof))
    return [0.0 if sigma < zero_below else (r - mean) / (sigma + eps) for r in rewards]


class Run:
    def __init__(self, folder):
        self.dir = pathlib.Path(folder)
        self.db = sqlite3.connect(f"file:{self.dir}/run.db?mode=ro", uri=True)
        self.db.row_factory = sqlite3.Row
        self.config = config_of(self.dir)
        self.decode = Decoder(pathlib.Path(self.config["model.path"]) / "tokenizer.json")
        self.modulus = int(self.config["tasks.0.modulus"])
        self.seed = int(self.config["run.seed"])
        self.problems = {row["id"]: row for row in self.rows("SELECT * FROM problems")}
        self.counted = collections.Counter()

    def rows(self, sql, *values):
        return self.db.execute(sql, values).fetchall()

    def setting(self, name):
        return self.config["algorithm.resets." + name]

    def number(self, name):
        return int(self.setting(name))


def check(condition, *what):
    if not condition:
        print("differs:", *what)
        sys.exit(1)


def ints(blob):
    return list(struct.unpack(f"<{len(blob) // 4}i", blob))


class Trajectory:
    def __init__(self, run, row):
        self.row, self.id = row, row["id"]
        self.ids, self.ends = ints(row["response_ids"]), ints(row["thought_ends"])
        self.text = run.decode(self.ids)
        edges = [0] + self.ends
        self.thoughts = [run.decode(self.ids[a:b]).split(DELIMITER)[0]
                         for a, b in zip(edges, edges[1:])]
        self.zero = not self.ends
        body = [i for i in self.ids if i not in run.decode.special]
        boxes = re.findall(r"\\boxed\{([^{}]*)\}", run.decode(body))
        gold = run.problems[row["problem_id"]]["gold"]
        self.plain = not boxes or re.fullmatch(r"\d+", boxes[-1]) is not None
        self.ok = bool(boxes) and self.plain and int(boxes[-1]) == int(gold)


def check_trajectory(run, one):
    """Boundaries are the first token that completes a delimiter; the grade is that of the answer."""
    row, start, ends = one.row, 0, []
    for i in range(len(one.ids)):
        if DELIMITER in run.decode(one.ids[start:i + 1]) or \
                i + 1 - start == int(run.config["thoughts.tokens_max"]):
            ends.append(i + 1)
            start = i + 1
    if start < len(one.ids) and one.ends and one.ends[-1] == len(one.ids):
        ends.append(len(one.ids))  # an open thought at the end counts
    check(ends == one.ends, one.id, "thought ends", ends, one.ends)
    check(len(row["logprobs"]) == len(row["response_ids"]), one.id, "a log-prob a token")
    if one.plain:
        check((row["grade"] == "correct") == one.ok, one.id, "grade", row["grade"], one.text)
    run.counted["trajectories"] += 1


def sequential(run, fresh):
    """Roles by the released rule, in the order of ids."""
    base, seeds = run.number("base"), run.number("seeds")
    size = base + seeds * run.number("continuations")
    kept, failed, roles, n = 0, [], {}, 0
    while (kept < base or len(failed) < seeds) and n < run.number("fresh_max"):
        one = fresh[n]
        wrong = one.row["grade"] != "correct" and not one.zero
        if wrong and len(failed) < seeds:
            failed.append(one)
            roles[n] = "seed"
        elif kept < base:
            kept += 1
            roles[n] = "base"
        n += 1
    if len(failed) == seeds:
        return failed, roles, False
    if base == 0 or failed:
        return [], {i: "base" for i in range(size)}, True
    for i in range(n, n + size - kept):
        roles[i] = "base"
    return [], roles, True


def check_group(run, members, group, suffix):
    check(members, group, "an empty group")
    rewards = [0.0 if m.zero else m.row["reward"] for m in members]
    for one, expected in zip(members, advantages(rewards)):
        row = one.row
        check(row["group_id"] == group, one.id, "group", row["group_id"], group)
        check(row["fate"] == "trained", one.id, "fate", row["fate"])
        check(row["suffix_start"] == suffix, one.id, "suffix start", row["suffix_start"], suffix)
        # a mean, a deviation and a quotient of at most 16 rewards: some 20 roundings
        check(abs(row["advantage"] - expected) <= 1e-13, one.id, "advantage", row["advantage"],
              expected)
        run.trained[row["step"]] += len(one.ids) - suffix
    run.counted["groups"] += 1


def named_thought(run, seed, state, localization):
    """What the plan's chooser says of this rollout: (thought, fallback)."""
    chosen, n = run.setting("chosen_by"), len(seed.ends)
    wrong = first_wrong(run.problems[seed.row["problem_id"]]["prompt"], seed.thoughts, run.modulus)
    check((state["oracle"] or 0) == wrong, state["id"], "oracle", state["oracle"], wrong)
    if chosen == "random":
        return 1 + below(run.seed, seed.id, DRAW, n), None
    if chosen == "oracle":
        return wrong, None if wrong else "none_wrong"
    if localization is None:
        return 1, "localize"
    thought, failed = parse_localization(localization["output"], n)
    check(localization["parsed"] == thought, localization["id"], "parsed", thought)
    check(localization["trajectory_id"] == seed.id, localization["id"], "of the wrong rollout")
    return thought, "parse" if failed else None if thought else "none_wrong"


def check_state(run, state, seed, continuations, localization):
    thought, fallback = named_thought(run, seed, state, localization)
    thought = max(1, min(max(thought, 1), len(seed.ends)) - run.number("offset"))
    if state["fallback"] in ("no_room", "continuation"):
        thought, fallback = 1, state["fallback"]
    check(state["thought"] == thought, state["id"], "thought", state["thought"], thought)
    check(state["fallback"] == fallback, state["id"], "fallback", state["fallback"], fallback)
    check(state["chosen_by"] == run.setting("chosen_by"), state["id"], "chosen by")
    check_suffixes(run, state, seed, continuations, thought)


def check_suffixes(run, state, seed, continuations, thought):
    cut = 0 if thought <= 1 else seed.ends[thought - 2]
    check(len(continuations) == run.number("continuations"), state["id"], "continuations")
    check(state["tokens"] == cut and ints(state["prefix"]) == seed.ids[:cut], state["id"], "prefix")
    for one in continuations:
        row = one.row
        check(one.ids[:cut] == seed.ids[:cut], one.id, "prefix tokens")
        check(row["logprobs"][:4 * cut] == seed.row["logprobs"][:4 * cut], one.id, "prefix log-probs")
        check(row["parent_id"] == seed.id and row["reset_id"] == state["id"], one.id, "parent")
        check(row["kind"] == "reset", one.id, "kind", row["kind"])
    masked = run.setting("mask") == "true"
    check_group(run, continuations, state["id"], cut if masked else 0)
    wins = sum(one.row["grade"] == "correct" for one in continuations)
    check((state["visits"], state["successes"]) == (len(continuations), wins), state["id"], "visits")
    run.counted["resets"] += 1


def check_problem(run, step, index, trajectories):
    first = step << 24 | index << 8
    fresh = [t for n, t in sorted(trajectories.items()) if n < FRESH_END]
    check([t.id for t in fresh] == list(range(first, first + len(fresh))), first, "fresh ids")
    seeds, roles, fell_back = sequential(run, fresh)
    base = []
    for n, one in enumerate(fresh):
        role = roles.get(n, "discarded")
        check(one.row["kind"] == ("seed" if role == "seed" else "base"), one.id, "role", role)
        if role == "base":
            base.append(one)
        else:
            check(one.row["fate"] == "filtered" and one.row["group_id"] is None, one.id, "trained on")
        if role == "discarded":
            run.discarded[step] += len(one.ids)
    run.fallbacks[step] += fell_back
    if base:
        check_group(run, base, first, 0)
    states = run.rows("SELECT * FROM resets WHERE id >= ? AND id < ? ORDER BY id", first, first + 256)
    check(len(states) == len(seeds), first, "reset states", len(states), len(seeds))
    for k, (state, seed) in enumerate(zip(states, seeds)):
        check(state["trajectory_id"] == seed.id, state["id"], "seed", state["trajectory_id"], seed.id)
        size = run.number("continuations")
        own = [trajectories[n] for n in range(CONTINUATIONS + k * size, CONTINUATIONS + (k + 1) * size)]
        found = run.rows("SELECT * FROM localizations WHERE id = ?", first + LOCALIZATIONS + k)
        check_state(run, state, seed, own, found[0] if found else None)


def check_metrics(run, steps):
    for step in range(steps):
        of = dict((r["name"], r["value"])
                  for r in run.rows("SELECT name, value FROM metrics WHERE step = ?", step))
        check(of["discarded_tokens"] == run.discarded[step], step, "discarded tokens")
        check(of["fallback.no_failure"] == run.fallbacks[step], step, "fallbacks")
        if "tokens.trained" in of:  # the learner's account may be lost with a coordinator
            check(of["tokens.trained"] == run.trained[step], step, "tokens trained",
                  of["tokens.trained"], run.trained[step])
        localized = run.rows("SELECT fallback FROM resets WHERE step = ?", step)
        for name in ("parse", "none_wrong", "localize", "no_oracle", "no_room", "continuation"):
            check(of["fallback." + name] == sum(r["fallback"] == name for r in localized), step, name)


def main():
    run = Run(sys.argv[1])
    run.trained, run.discarded = collections.Counter(), collections.Counter()
    run.fallbacks = collections.Counter()
    steps = run.rows("SELECT count(*) AS n FROM steps")[0]["n"]
    check(steps > 0, "no step is done")
    for step in range(steps):
        problems = collections.defaultdict(dict)
        for row in run.rows("SELECT * FROM trajectories WHERE step = ? AND kind NOT IN "
                            "('eval', 'localize')", step):
            one = Trajectory(run, row)
            check_trajectory(run, one)
            problems[row["id"] >> 8 & 0xFFFF][row["id"] & 0xFF] = one
        for index, trajectories in sorted(problems.items()):
            check_problem(run, step, index, trajectories)
    check_metrics(run, steps)
    check(run.counted["resets"] > 0, "nothing was reset: this run checks nothing")
    print(f"{sys.argv[1]}: {steps} steps,", ", ".join(f"{n} {k}" for k, n in run.counted.items()),
          "as recomputed")


main()
