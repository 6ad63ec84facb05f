#!/usr/bin/env python3
"""Recomputes what an audit file says of one training step, sharing no code with retake: the loss and
its derivative by every token's log-prob from advantages, masks and log-probs, exact zeros in
prompts and prefixes, and the gradient norm from the gradients.

    python3 tests/oracles/audit_check.py FILE.safetensors [RUN]

With RUN it also compares ids, log-probs, advantages (times advantage_scale of the task, read from
config.yaml) and masks with run.db. Needs only Python's
standard library.
"""
import json
import math
import sqlite3
import struct
import sys


def load(path):
    data = open(path, "rb").read()
    bytes_head = struct.unpack("<Q", data[:8])[0]
    head, tensors = json.loads(data[8:8 + bytes_head]), {}
    for name, form in head.items():
        if name != "__metadata__":
            begin, end = (8 + bytes_head + offset for offset in form["data_offsets"])
            kind = {"F32": "f", "I32": "i"}[form["dtype"]]
            tensors[name] = struct.unpack(f"<{(end - begin) // 4}{kind}", data[begin:end])
    return head["__metadata__"], tensors


def check(condition, *what):
    if not condition:
        print("differs:", *what)
        sys.exit(1)


def near(a, b, scale):
    """Equal but for one rounding to float32 of a sum of terms of that scale."""
    return abs(a - b) <= 2.0 ** -23 * max(abs(a), abs(b)) + 1e-12 * scale


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def token_term(settings, advantage, new, old):
    """(x, dx / d new), x to be minimised: docs/algorithms.md."""
    check(settings["loss"] == "policy", "no oracle for this loss")
    if settings["ratio"] == "none":
        return -advantage * new, -advantage
    check(settings["ratio"] == "token" and not settings["ratio_max"], "no oracle for this ratio")
    r = math.exp(new - old)
    low, high = 1 - settings["clip_low"], 1 + settings["clip_high"]
    clipped = min(max(r, low), high) if settings["clip_low"] or settings["clip_high"] else r
    x = max(-advantage * r, -advantage * clipped)
    slope = -advantage * r if -advantage * r >= -advantage * clipped else 0.0
    if settings["clip_dual"] and advantage < 0 and x > -advantage * settings["clip_dual"]:
        return -advantage * settings["clip_dual"], 0.0
    return x, slope


def check_update(update, members, tensors, settings):
    trained = [[t for t, m in enumerate(tensors[f"mask.{i}"]) if m] for i in members]
    sequences, tokens = len(members), sum(map(len, trained))
    loss = scale = 0.0
    for i, own in zip(members, trained):
        if settings["aggregation"] == "sequence_mean":
            weight = 1 / (sequences * max(1, len(own)))
        else:
            check(settings["aggregation"] == "token_mean", "no oracle for this aggregation")
            weight = 1 / max(1, tokens)
        slopes = dict.fromkeys(own, 0.0)
        for t in own:
            advantage = tensors[f"advantage.{i}"][t]
            x, slope = token_term(settings, advantage, tensors[f"new_logprob.{i}"][t],
                                  tensors[f"old_logprob.{i}"][t])
            loss, scale = loss + weight * x, scale + weight * abs(x)
            slopes[t] = weight * slope
        for t, got in enumerate(tensors[f"dloss_dlogprob.{i}"]):
            if t not in slopes:
                check(struct.pack("<f", got) == b"\0\0\0\0", i, t, "a token before the reset has a gradient")
            else:
                check(near(got, slopes[t], abs(slopes[t]) * 1e4), i, t, "derivative", got, slopes[t])
    # advantages in the file are rounded to float32: one relative rounding a term
    check(abs(tensors["loss"][update] - loss) <= 2.0 ** -22 * scale + 1e-12, update, "loss",
          tensors["loss"][update], loss)


def check_norm(update, tensors):
    prefix = "grad." if update == 0 else f"grad.{update}."
    names = [n for n in tensors if n.startswith(prefix) and not n[len(prefix)].isdigit()]
    check(names, update, "no gradient")
    norm = math.sqrt(math.fsum(x * x for name in names for x in tensors[name]))
    check(near(tensors["grad_norm"][update], norm, norm * 1e5), update, "gradient norm",
          tensors["grad_norm"][update], norm)


def scales(run):
    """advantage_scale of every task, in their order."""
    with open(f"{run}/config.yaml", encoding="utf-8") as lines:
        return [float(line.split(":")[1]) for line in lines if "advantage_scale:" in line]


def check_rows(tensors, step, run):
    scale = scales(run)
    db = sqlite3.connect(f"file:{run}/run.db?mode=ro", uri=True)
    rows = db.execute("SELECT id, prompt_ids, response_ids, logprobs, suffix_start, advantage, "
                      "problem_id >> 48 FROM trajectories WHERE step = ? AND fate = 'trained' ORDER BY id",
                      (step,)).fetchall()
    words = tensors["trajectory"]
    check(len(rows) * 2 == len(words), "sequences", len(words) // 2, len(rows))
    for i, (identity, prompt_ids, response_ids, logprobs, start, advantage, task) in enumerate(rows):
        ids, prompt = prompt_ids + response_ids, len(prompt_ids) // 4
        check((words[2 * i] & 0xFFFFFFFF) | words[2 * i + 1] << 32 == identity, i, "order of ids")
        check(struct.pack(f"<{len(tensors[f'ids.{i}'])}i", *tensors[f"ids.{i}"]) == ids, i, "ids")
        old = tensors[f"old_logprob.{i}"][prompt:]
        check(struct.pack(f"<{len(old)}f", *old) == logprobs, i, "log-probs")
        mask = [float(t >= prompt + start) for t in range(len(ids) // 4)]
        check(list(tensors[f"mask.{i}"]) == mask, i, "mask")
        advantage *= scale[task]
        check(all(a == f32(advantage) for a in tensors[f"advantage.{i}"][prompt:]), i, "advantage")


def main():
    metadata, tensors = load(sys.argv[1])
    settings = json.loads(metadata["algorithm"])
    update_of = tensors["update"]
    for update in range(max(update_of) + 1):
        members = [i for i, u in enumerate(update_of) if u == update]
        if not members:  # of an adapter that had nothing to learn
            continue
        check_update(update, members, tensors, settings)
        check_norm(update, tensors)
    if len(sys.argv) > 2:
        check_rows(tensors, int(metadata["version_before"]), sys.argv[2])
    masked = sum(1 for i in range(len(update_of)) for m in tensors[f"mask.{i}"] if not m)
    print(f"{sys.argv[1]}: {len(update_of)} sequences, {max(update_of) + 1} updates, "
          f"{masked} tokens without gradient, as recomputed")


main()
