#!/usr/bin/env python3
"""Recomputes a run of debates from its raw trajectories, sharing no code with retake: who quotes
whom, every prompt's text and history, answers, votes, labels, records, rewards, advantages, fates,
groups and metrics. For plain conversations (no chat marks) and the answers of grader number.

    python3 tests/oracles/debate_check.py RUN [SQL]

With SQL a copy in memory is changed by it first (one row), to see whether that is noticed. Needs only
Python's standard library. Prints one line, or the first difference and exits with 1.
"""
import collections
import fractions
import json
import math
import pathlib
import re
import sqlite3
import struct
import sys

from run_folder import config_of, philox

ORDER_SEED = 0x6465626174650001
EVALUATION = 3 << 61  # ids of evaluated debates begin here
NOBODY = 16           # author of an order that all records of a debate share
SPACE = b" \t\n\v\f\r"
MASK = (1 << 64) - 1
TEXTS = pathlib.Path(__file__).resolve().parents[2] / "tasks" / "prompts"


def check(condition, *what):
    if not condition:
        print("differs:", *what)
        sys.exit(1)


def same(found, expected, *what):
    check(found == expected, *what, "found", found, "expected", expected)


# ---- random numbers ------------------------------------------------------------------------------


def xxh3_of_two(first, second, seed):
    """XXH3-64 of 16 bytes, by its specification: bytes 24 to 55 of its secret, two by two."""
    low = first ^ ((0x1F67B3B7A4A44072 ^ 0x78E5C0CC4EE679CB) + seed & MASK)
    high = second ^ ((0x2172FFCC7DD05A82 ^ 0x8E2443F7744608B8) - seed & MASK)
    product = low * high
    h = 16 + int.from_bytes(low.to_bytes(8, "little"), "big") + high
    h = h + ((product & MASK) ^ (product >> 64)) & MASK
    h = (h ^ h >> 37) * 0x165667919E3779F9 & MASK
    return h ^ h >> 32


def order_of(seed, debate, round_, agent, agents):
    stream = xxh3_of_two(debate, round_ << 32 | agent, ORDER_SEED)
    order = list(range(agents))
    for i in range(agents, 1, -1):
        words = philox(seed, stream, i)
        other = ((words[0] << 32 | words[1]) * i) >> 64
        order[i - 1], order[other] = order[other], order[i - 1]
    return order


# ---- texts ---------------------------------------------------------------------------------------


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
            check("im_start" not in token["content"], "this program reads plain conversations only")
            self.pieces[token["id"]] = token["content"].encode()
            self.special.add(token["id"])

    def text(self, ids):
        """Without special tokens."""
        return b"".join(self.pieces[i] for i in ids if i not in self.special)


def first_box(text):
    """Content of the first complete \\boxed{} or \\fbox{}; brackets behind a backslash are text."""
    for command in re.finditer(rb"\\(?:boxed|fbox)[ \n]*(?=\{)", text):
        depth, at = 0, command.end()
        while at < len(text):
            sign = text[at:at + 1]
            at += 2 if sign == b"\\" and at + 1 < len(text) else 1
            depth += (sign == b"{") - (sign == b"}")
            if sign == b"}" and depth == 0:
                return text[command.end() + 1:at - 1]
    return None


def answer_of(text):
    box = first_box(text)
    box = None if box is None else box.strip(SPACE)
    return None if box is None or len(box) > 1024 or b"\0" in box else box


def number(answer):
    text = re.sub(rb"(?<=.)\\?%$", b"", answer).decode("utf-8", "replace")
    if re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)", text):
        return fractions.Fraction(text)
    return None


def equal(a, b):
    """Grader number: the same text or the same number."""
    if a is None or b is None:
        return False
    if a == b:
        return True
    return number(a) is not None and number(a) == number(b)


def valid_utf8(data):
    """As much of it as is UTF-8."""
    try:
        data.decode()
        return data
    except UnicodeDecodeError as problem:
        return data[:problem.start]


def shown(data):
    return None if data is None else valid_utf8(data).decode()


def format_reward(text):
    lines = [line.strip(SPACE) for line in text.split(b"\n")]
    lines = [line for line in lines if line]
    steps = sum(b"\\boxed{" not in line and sum(byte & 0xC0 != 0x80 for byte in line) > 10
                for line in lines)
    reward = 0.0
    if steps >= 2:
        reward += 0.2
        reward += min(0.2, (steps - 2) * 0.04)
    if text.count(b"\\boxed{") == 1:
        reward += 0.3
        reward += 0.2 if b"\\boxed{" in lines[-1] else -0.1
    else:
        reward -= 0.2
    return max(0.0, min(1.0, reward))


def advantages(rewards, run):
    if run.config["algorithm.baseline"] == "none":
        return list(rewards)
    same(run.config["algorithm.baseline"], "mean", "a baseline this program does not know")
    if len(set(rewards)) == 1:
        return [0.0] * len(rewards)
    ddof = int(run.config["algorithm.std_ddof"])
    mean = sum(rewards) / len(rewards)
    sigma = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - max(ddof, 0)))
    if sigma < float(run.config["algorithm.zero_below"]):
        return [0.0] * len(rewards)
    divisor = 1.0 if ddof < 0 else sigma + float(run.config["algorithm.std_eps"])
    return [(r - mean) / divisor for r in rewards]


# ---- votes ---------------------------------------------------------------------------------------


def clusters_of(answers, weights):
    """[name, members, weight] in order of first members."""
    found = []
    for answer, weight in zip(answers, weights):
        if answer is None:
            continue
        mine = next((c for c in found if equal(answer, c[0])), None)
        if mine is None:
            mine = [answer, 0, 0]
            found.append(mine)
        mine[1] += 1
        mine[2] += weight
    return found


def vote(rule, answers, means=None):
    """(consensus or None, how many agree with it)"""
    weights = [0] * len(answers)
    if rule == "weighted":  # exp of a mean is at most 1: no sum of 16 loses a bit
        weights = [round(math.exp(min(m, 0.0)) * 2 ** 32) if m == m else 0 for m in means]
    found = clusters_of(answers, weights)
    if not found:
        return None, 0
    best = max(found, key=lambda c: (c[2] if rule == "weighted" else 0, c[1], c[0]))
    if rule == "strict" and 2 * best[1] <= len(answers):
        return None, 0
    return best[0], sum(equal(a, best[0]) for a in answers)


# ---- the run -------------------------------------------------------------------------------------


class Run:
    def __init__(self, folder, change):
        self.dir = pathlib.Path(folder)
        self.db = sqlite3.connect(f"file:{self.dir}/run.db?mode=ro", uri=True)
        if change:
            kept, self.db = self.db, sqlite3.connect(":memory:")
            kept.backup(self.db)
            if self.db.execute(change).rowcount != 1:
                sys.exit("not one row was changed")
        self.db.row_factory = sqlite3.Row
        self.config = config_of(self.dir)
        model = pathlib.Path(self.config["model.path"])
        self.decoder = Decoder(model / "tokenizer.json")
        self.seed = int(self.config["run.seed"])
        self.agents, self.rounds = self.integer("agents"), self.integer("rounds")
        self.turns = self.agents * self.rounds
        self.generated = not self.config["tasks.0.data"]
        self.compact = self.generated and not self.config["prompts.peers"]
        check(not self.config["prompts.question"] and not self.config["prompts.peers"],
              "this program knows no template files")
        context = int(self.config["model.context"]) or \
            json.loads((model / "config.json").read_text())["max_position_embeddings"]
        self.tokens_max = context - int(self.config["sampling.max_tokens"])
        self.samples = int(self.config["algorithm.samples"])
        self.online = self.setting("record") == "grpo" and self.flag("online")
        self.adapters = 0 if int(self.config["learner.lora.rank"]) == 0 else \
            self.agents if self.setting("adapters") == "own" else 1
        self.problems = {row["id"]: row for row in self.rows("SELECT * FROM problems")}
        self.raw = [] if self.generated else self.read_data()
        self.counted = collections.Counter()

    def read_data(self):
        field = self.config["tasks.0.fields.problem"] or "problem"
        lines = pathlib.Path(self.config["tasks.0.data"]).read_text().splitlines()
        return [json.loads(line)[field] for line in lines if line.strip()]

    def rows(self, sql, *values):
        return self.db.execute(sql, values).fetchall()

    def setting(self, name):
        return self.config["algorithm.debate." + name]

    def integer(self, name):
        return int(self.setting(name))

    def flag(self, name):
        return self.setting(name) == "true"

    def metrics(self, step):
        return {r["name"]: r["value"] for r in self.rows("SELECT * FROM metrics WHERE step = ?", step)}

    def gold(self, problem):
        return self.problems[problem]["gold"].encode().strip(SPACE)

    def question(self, problem):
        return self.problems[problem]["prompt"].encode()

    def problem_text(self, problem):
        prompt = self.problems[problem]["prompt"]
        return max((p for p in self.raw if p in prompt), key=len).encode()


def ints(blob):
    return list(struct.unpack(f"<{len(blob) // 4}i", blob))


class Text:
    """A sampled trajectory."""

    def __init__(self, run, row):
        self.row, self.id = row, row["id"]
        self.ids, self.prompt = ints(row["response_ids"]), ints(row["prompt_ids"])
        logprobs = struct.unpack(f"<{len(row['logprobs']) // 4}f", row["logprobs"])
        same(len(logprobs), len(self.ids), self.id, "log-probs")
        self.text = run.decoder.text(self.ids)
        self.answer = answer_of(self.text)
        total = 0.0
        for value in logprobs:
            total += value
        self.mean = total / len(logprobs) if logprobs else -math.inf
        self.summary = None


class Debate:
    def __init__(self, run, row, texts):
        self.run, self.row, self.id = run, row, row["id"]
        self.problem, self.texts = row["problem_id"], texts
        self.evaluated = self.id >= EVALUATION
        self.reports = collections.Counter()
        self.records = []
        check(set(range(run.turns)) <= set(texts), self.id, "misses turns", sorted(texts))
        for number in range(run.turns if run.flag("summaries") else 0):
            summary = texts.get(run.turns + number)
            if summary:
                texts[number].summary = summary.text.split(b"\0")[0]

    def turn(self, round_, agent):
        return self.texts[round_ * self.run.agents + agent]

    def round(self, round_):
        return [self.turn(round_, agent) for agent in range(self.run.agents)]

    def answers(self, round_):
        return [turn.answer for turn in self.round(round_)]

    def vote(self, round_, rule=None):
        return vote(rule or self.run.setting("vote"), self.answers(round_),
                    [turn.mean for turn in self.round(round_)])


# ---- prompts -------------------------------------------------------------------------------------


def quotes_of(debate, round_, agent):
    run = debate.run
    if round_ == 0:
        return []
    order = order_of(run.seed, debate.id, round_, agent, run.agents)
    return [other for other in order if other != agent][:run.integer("peers")]


def quotable(run, turn):
    """What a turn's message quotes of it; None: nothing."""
    if run.compact:
        text = None if turn.answer is None else valid_utf8(turn.answer[:32])
    elif run.flag("summaries") and turn.summary and turn.summary.strip(SPACE):
        text = turn.summary
    else:
        text = turn.text
    return text if text and text.strip(SPACE) else None


def tail(text, limit):
    """At most so many bytes of its end, from the beginning of a character."""
    skip = max(len(text) - limit, 0)
    for _ in range(3):
        if skip and skip < len(text) and text[skip] & 0xC0 == 0x80:
            skip += 1
    return text[skip:]


def peers_message(run, problem, quotes, limit):
    """(text, how many are cut, bytes cut)"""
    tails = [tail(q, limit) for q in quotes]
    lost = [len(q) - len(t) for q, t in zip(quotes, tails)]
    tails = [t.replace(b"\0", b" ") for t in tails]
    if run.compact:
        line = b",".join(t.replace(b"\n", b" ").replace(b"\r", b" ") for t in tails)
        text = b"P:" + (line if quotes else b"-") + b"\n"
    else:
        parts = [b"Solution %d:\n" % (i + 1) + (b"[...] " if lost[i] else b"") + t
                 for i, t in enumerate(tails)]
        filled = {b"{peers}": b"\n\n".join(parts) or b"(Nobody gave an answer.)",
                  b"{problem}": run.problem_text(problem)}
        form = (TEXTS / "debate_peers.txt").read_bytes().rstrip(b"\n")
        text = re.sub(rb"\{peers\}|\{problem\}", lambda found: filled[found[0]], form)
        if run.flag("diversity"):
            text += b"\n\n" + (TEXTS / "debate_diversity.txt").read_bytes().rstrip(b"\n")
    return text, sum(n > 0 for n in lost), sum(lost)


def check_message(debate, ids, before, quotes, cut, what):
    """The ids say `before`, then the quotes, all cut to one length if at all. Returns bytes cut."""
    run, text = debate.run, debate.run.decoder.text(ids)
    check(not run.decoder.special & set(ids), *what, "a special token in a message")
    longest = max([len(q) for q in quotes], default=0)
    for limit in range(longest, -1, -1):
        message, count, lost = peers_message(run, debate.problem, quotes, limit)
        if before + message == text and count == cut:
            return lost
        if cut == 0:
            break
    check(False, *what, "text", text, "expected", before + peers_message(
        run, debate.problem, quotes, longest)[0], "cut", cut)


def whole_question(run, problem):
    question = run.question(problem)
    return question if run.compact else question + (b"\n" if question.endswith(b"\n") else b"\n\n")


def check_prompt(debate, round_, agent, row):
    run, turn = debate.run, debate.turn(round_, agent)
    what = (debate.id, "round", round_, "agent", agent)
    peers = quotes_of(debate, round_, agent)
    same(row["quoted"], ",".join(map(str, peers)), *what, "quoted")
    check(len(turn.prompt) <= run.tokens_max, *what, "a prompt of", len(turn.prompt), "tokens")
    if round_ == 0:
        same(run.decoder.text(turn.prompt), run.question(debate.problem), *what, "question")
        same((row["cut"], row["anew"]), (0, 0), *what, "cut, anew")
        return
    quotes = [quotable(run, debate.turn(round_ - 1, peer)) for peer in peers]
    debate.reports["silent"] += quotes.count(None)
    quotes = [q for q in quotes if q is not None]
    debate.reports["quoted"] += len(quotes)
    debate.reports["cut"] += row["cut"]
    debate.reports["anew"] += row["anew"]
    own = debate.turn(round_ - 1, agent)
    ids, before = turn.prompt, b""
    if row["anew"]:
        before = whole_question(run, debate.problem)
        check(len(own.prompt) + len(own.ids) > 0, *what)
    else:
        history = own.prompt + own.ids
        while history and history[-1] in run.decoder.special:
            history.pop()
        same(ids[:len(history)], history, *what, "history")
        pieces = [p for p in (run.decoder.pieces[i] for i in history) if p]
        before = b"" if not pieces or pieces[-1].endswith(b"\n") else b"\n"
        ids = ids[len(history):]
    debate.reports["cut.bytes"] += check_message(debate, ids, before, quotes, row["cut"], what)


def check_summaries(debate):
    run = debate.run
    form = (TEXTS / "debate_summary.txt").read_bytes().rstrip(b"\n")
    for number in range(run.turns):
        summary, turn = debate.texts.get(run.turns + number), debate.texts[number]
        asked = number < run.turns - run.agents and turn.text != b""
        if summary is None or not asked:
            check(summary is None or asked, debate.id, "a summary of turn", number)
            continue
        same(summary.row["kind"], "summary", summary.id, "kind")
        if not run.generated:
            filled = {b"{peers}": turn.text.replace(b"\0", b" "),
                      b"{problem}": run.problem_text(debate.problem)}
            text = re.sub(rb"\{peers\}|\{problem\}", lambda found: filled[found[0]], form)
            same(run.decoder.text(summary.prompt), text, summary.id, "prompt of a summary")
        run.counted["summaries"] += 1


# ---- labels and records --------------------------------------------------------------------------


def decide(debate):
    """(label, agents behind it)"""
    run, source = debate.run, debate.run.setting("label")
    if source == "truth":
        gold = run.gold(debate.problem)
        return gold, sum(equal(a, gold) for a in debate.answers(run.rounds - 1))
    return debate.vote(0 if source == "first_round" else run.rounds - 1)


def context_quotes(debate, author, rejected):
    run, context = debate.run, debate.run.setting("context")
    if context == "previous" and run.rounds > 1:
        order = order_of(run.seed, debate.id, run.rounds, NOBODY, run.agents)
        return [debate.turn(run.rounds - 2, agent) for agent in order]
    if context != "final":
        return []
    order = order_of(run.seed, debate.id, run.rounds, author, run.agents)
    others = [agent for agent in order if agent not in (author, rejected)]
    return [debate.turn(run.rounds - 1, agent) for agent in others[:run.integer("peers")]]


def make_records(debate, label):
    """What should be there, as dicts."""
    run, kind = debate.run, debate.run.setting("record")
    last = 0 if run.setting("context") == "first" else run.rounds - 1
    turns = debate.round(last)
    agrees = [equal(turn.answer, label) for turn in turns]
    made = []
    for agent, turn in enumerate(turns):
        one = dict(kind=kind, agent=agent, chosen=turn, rejected=None, label=agrees[agent],
                   reward=None, other=-1)
        if run.online:
            made.append(dict(one, chosen=None))
        elif kind == "grpo":
            reward = 2.0 if agrees[agent] else 0.0
            reward += format_reward(turn.text) if run.flag("format_reward") else 0
            made.append(dict(one, reward=reward))
        elif kind == "kto" or (kind == "sft" and agrees[agent]):
            made.append(one)
        elif kind == "dpo" and agrees[agent]:
            made += [dict(one, rejected=turns[other], other=other)
                     for other in range(run.agents) if not agrees[other]]
    return made


def check_record_prompt(debate, record, row):
    run, ids = debate.run, ints(row["prompt_ids"])
    what = ("record", row["id"])
    check(len(ids) <= run.tokens_max, *what, "a prompt of", len(ids), "tokens")
    bare = debate.turn(0, 0).prompt
    if record["kind"] == "sft":
        whole = run.setting("context") in ("final", "previous")
        same(ids, record["chosen"].prompt if whole else bare, *what, "prompt")
        return
    quoted = context_quotes(debate, record["agent"], record["other"])
    if not quoted:
        same(ids, bare, *what, "prompt")
        return
    quotes = [q for q in (quotable(run, turn) for turn in quoted) if q is not None]
    before = whole_question(run, debate.problem)
    text = run.decoder.text(ids)
    longest = max([len(q) for q in quotes], default=0)
    cut = 0 if text == before + peers_message(run, debate.problem, quotes, longest)[0] else None
    for limit in range(longest if cut is None else -1, -1, -1):
        message, count, _ = peers_message(run, debate.problem, quotes, limit)
        cut = count if before + message == text else cut
    check(cut is not None, *what, "prompt", text, "quotes", quotes)
    check(cut == 0 or len(ids) > run.tokens_max - 8, *what, "cut without need")
    check_message(debate, ids, before, quotes, cut, what)


def check_records(debate, label, enough):
    run = debate.run
    rows = run.rows("SELECT * FROM records WHERE debate_id = ? ORDER BY id", debate.id)
    expected = make_records(debate, label) if enough and not debate.evaluated else []
    same(len(rows), len(expected), debate.id, "records")
    for index, (row, record) in enumerate(zip(rows, expected)):
        what = ("record", row["id"])
        same(row["id"], debate.id + index, *what, "id")
        same(row["kind"], record["kind"], *what, "kind")
        same(row["agent"], record["agent"], *what, "agent")
        same(row["chosen"], record["chosen"].id if record["chosen"] else None, *what, "chosen")
        same(row["rejected"], record["rejected"].id if record["rejected"] else None, *what, "rejected")
        same(row["label"], int(record["label"]), *what, "label")
        same(row["reward"], record["reward"], *what, "reward")
        check_record_prompt(debate, record, row)
        record["prompt"] = ints(row["prompt_ids"])
        run.counted[record["kind"] + " records"] += 1
    debate.records = expected


# ---- what is trained -----------------------------------------------------------------------------


def check_group(run, members, rewards, group):
    for one, reward, expected in zip(members, rewards, advantages(rewards, run)):
        same(one.row["reward"], reward, one.id, "reward")
        same(one.row["group_id"], group, one.id, "group")
        # a mean, a deviation and a quotient of at most 16 rewards up to 3: some 20 roundings
        check(abs(one.row["advantage"] - expected) <= 1e-13, one.id, "advantage",
              one.row["advantage"], expected)
    run.counted["groups"] += 1


def check_trained(debate, label):
    """Fates, groups and advantages. Returns (lessons, groups)."""
    run, trained, groups, lessons = debate.run, {}, [], 0
    each = run.adapters if run.adapters > 1 and run.setting("pool") == "shared" else 1
    offline = run.setting("record") == "grpo" and not run.online
    for record in debate.records:
        if run.online:
            first = run.turns * (2 if run.flag("summaries") else 1) + record["agent"] * run.samples
            members = [debate.texts[first + k] for k in range(run.samples)]
            rewards = []
            for one in members:
                reward = 2.0 if equal(one.answer, label) else 0.0
                rewards.append(reward + (format_reward(one.text) if run.flag("format_reward") else 0))
                same(one.prompt, record["prompt"], one.id, "prompt")
            check_group(run, members, rewards, debate.id + first)
            groups.append(debate.id + first)
        else:
            members = [one for one in (record["chosen"], record["rejected"]) if one]
        trained.update((one.id, one) for one in members)
        lessons += len(members) * (1 if offline else each)
    if offline and debate.records:
        check_group(run, [r["chosen"] for r in debate.records],
                    [r["reward"] for r in debate.records], debate.id)
        groups.append(debate.id)
    grouped = run.online or offline
    for one in debate.texts.values():
        row = one.row
        same(row["fate"], "trained" if one.id in trained else "filtered", one.id, "fate")
        same(row["problem_id"], debate.problem, one.id, "problem")
        same(row["suffix_start"], 0, one.id, "suffix start")
        check(grouped and one.id in trained or (row["group_id"], row["advantage"]) == (None, None),
              one.id, "a group of its own")
        if not (grouped and one.id in trained):
            same(row["reward"], float(row["grade"] == "correct"), one.id, "reward")
        boxes = re.findall(rb"\\boxed\{([^{}]*)\}", one.text)
        gold = number(run.gold(debate.problem))
        if len(boxes) == 1 and one.answer and number(one.answer) is not None and gold is not None:
            same(row["grade"] == "correct", number(one.answer) == gold, one.id, "grade")
    return lessons, groups


def check_debate(run, row, texts):
    debate = Debate(run, row, texts)
    same((row["agents"], row["rounds"]), (run.agents, run.rounds), debate.id, "size")
    rows = run.rows("SELECT * FROM turns WHERE debate_id = ? ORDER BY round, agent", debate.id)
    same(len(rows), run.turns, debate.id, "turns")
    if run.flag("summaries"):
        check_summaries(debate)
    for number_, turn in enumerate(rows):
        round_, agent = divmod(number_, run.agents)
        what = (debate.id, "round", round_, "agent", agent)
        same((turn["round"], turn["agent"]), (round_, agent), *what)
        same(turn["trajectory_id"], debate.id + number_, *what, "trajectory")
        one = debate.turn(round_, agent)
        same(one.row["kind"], "debate", *what, "kind")
        same(turn["answer"], shown(one.answer), *what, "answer")
        same(turn["summary"], shown(one.summary), *what, "summary")
        check_prompt(debate, round_, agent, turn)
        run.counted["turns"] += 1
    consensus, votes = debate.vote(run.rounds - 1)
    same(row["consensus"], shown(consensus), debate.id, "consensus")
    same(row["votes"], votes, debate.id, "votes")
    label, behind = decide(debate)
    same(row["label"], shown(label), debate.id, "label")
    same(row["source"], run.setting("label"), debate.id, "source")
    enough = bool(label) and behind / run.agents >= float(run.setting("agreement_min"))
    same(row["enough"], int(enough), debate.id, "enough")
    check_records(debate, label, enough)
    debate.lessons, debate.groups = check_trained(debate, label)
    run.counted["evaluated debates" if debate.evaluated else "debates"] += 1
    return debate


# ---- measures ------------------------------------------------------------------------------------


def right(run, debate, answer):
    gold = run.gold(debate.problem)
    return bool(gold) and equal(answer, gold)


def measure_changes(run, debate, round_, sums):
    before, now = debate.answers(round_ - 1), debate.answers(round_)
    were_right = [right(run, debate, a) for a in before]
    for agent in range(run.agents):
        was, is_ = before[agent], now[agent]
        sums["switches"] += (was is not None or is_ is not None) and not equal(is_, was)
        others, _ = vote("strict", [a for i, a in enumerate(before) if i != agent])
        if others is not None and not right(run, debate, others) and not equal(was, others):
            sums["under"] += 1
            sums["sycophantic"] += equal(is_, others)
        if not were_right[agent] and 0 < 2 * sum(were_right) <= run.agents:
            sums["minority"] += 1
            sums["persuaded"] += right(run, debate, is_)


def expected_measures(run, debates):
    """Name without prefix → value; a share of nothing is left out."""
    made, n, last = {}, len(debates), run.rounds - 1

    def put(name, part, whole):
        if whole:
            made[name] = part / whole

    groups = [max([debate.answers(last).count(a) for a in debate.answers(last) if a is not None],
                  default=0) for debate in debates]
    for k in range(run.agents + 1):
        put(f"agreement.{k}", groups.count(k), n)
    put("unparseable", sum(d.answers(last).count(None) for d in debates), n * run.agents)
    put("accuracy", sum(right(run, d, d.vote(last)[0]) for d in debates), n)
    for round_ in range(run.rounds):
        name = f"round.{round_ + 1}."
        put(name + "accuracy", sum(right(run, d, a) for d in debates for a in d.answers(round_)),
            n * run.agents)
        put(name + "vote", sum(right(run, d, d.vote(round_)[0]) for d in debates), n)
        put(name + "tokens", sum(len(t.ids) for d in debates for t in d.round(round_)), n * run.agents)
        if round_ == 0:
            put("single.accuracy", made.get(name + "accuracy", 0) if n else 0, 1 if n else 0)
            continue
        sums = collections.Counter()
        for debate in debates:
            measure_changes(run, debate, round_, sums)
        put(name + "switches", sums["switches"], n * run.agents)
        put(name + "sycophancy", sums["sycophantic"], sums["under"])
        put(name + "persuasion", sums["persuaded"], sums["minority"])
    for agent in range(run.agents):
        put(f"agent.{agent}.accuracy", sum(right(run, d, d.answers(last)[agent]) for d in debates), n)
    return made


OF_SAMPLES = {"samples.pass", "samples.majority", "low", "high", "count"}
OF_STEP = {"quoted", "silent", "cut", "cut.bytes", "anew", "records", "records.desirable",
           "records.unfit", "without_record", "lessons", "affinity.wanted", "affinity.hits",
           "prompt.tokens.computed", "prompt.tokens.reused"}


def compare_metrics(found, prefix, expected, apart, where):
    here = {k[len(prefix):]: v for k, v in found.items() if k.startswith(prefix)}
    for name, value in expected.items():
        same(here.get(name), value, where, prefix + name)
    check(not set(here) - set(expected) - apart, where, "unknown metrics",
          set(here) - set(expected) - apart)


def check_step_metrics(run, step, debates):
    found = run.metrics(step)
    if found["failed"]:
        return
    expected = expected_measures(run, debates)
    records = [record for debate in debates for record in debate.records]
    for name in ("quoted", "silent", "cut", "cut.bytes", "anew"):
        expected[name] = sum(debate.reports[name] for debate in debates)
    expected["records"] = len(records)
    expected["records.desirable"] = sum(record["label"] for record in records)
    expected["without_record"] = sum(not debate.records for debate in debates)
    expected["lessons"] = sum(debate.lessons for debate in debates)
    expected["records.unfit"] = 0
    compare_metrics(found, "debate.", expected, OF_STEP, step)
    run.counted["metrics"] += len(expected)


def sample_measures(run, answers, gold):
    found = clusters_of(answers, [0] * len(answers))
    best = max(found, key=lambda c: (c[1], c[0])) if found else None
    return (best[1] / len(answers) if best else 0.0, any(equal(a, gold) for a in answers),
            bool(best) and equal(best[0], gold))


def check_evaluation(run, version, debates):
    found = run.metrics(version)
    if "eval.complete" not in found:
        return
    expected = expected_measures(run, debates)
    alone = collections.defaultdict(list)
    for row in run.rows("SELECT * FROM trajectories WHERE kind = 'eval' AND step = ? AND "
                        "(id >> 31) & 1 ORDER BY id", version):
        alone[row["id"] >> 4 & 0x7FFFFFF].append(Text(run, row))
    measures = [sample_measures(run, [one.answer for one in texts],
                                run.gold(texts[0].row["problem_id"]))
                for _, texts in sorted(alone.items()) if len(texts) > 1]
    if measures:
        n, total = len(measures), 0.0
        for s, _, _ in measures:
            total += s
        expected["samples.pass"] = sum(m[1] for m in measures) / n
        expected["samples.majority"] = sum(m[2] for m in measures) / n
        same(found["eval.consistency.accuracy"], total / n, version, "self-consistency")
        same(found["eval.consistency.count"], n, version, "problems of self-consistency")
    compare_metrics(found, "eval.debate.", expected, OF_SAMPLES, version)
    run.counted["metrics"] += len(expected)


# ---- all of it -----------------------------------------------------------------------------------


def debates_of(run, step, evaluated):
    low, high = (EVALUATION + (step << 32), EVALUATION + (step + 1 << 32)) if evaluated else \
        (step << 24, step + 1 << 24)
    texts = collections.defaultdict(dict)
    for row in run.rows("SELECT * FROM trajectories WHERE id >= ? AND id < ? AND step = ?", low, high,
                        step):
        texts[row["id"] >> 8 << 8][row["id"] & 0xFF] = Text(run, row)
    rows = run.rows("SELECT * FROM debates WHERE step = ? AND (id >= ?) = ? ORDER BY id", step,
                    EVALUATION, int(evaluated))
    for row in rows:
        check(low <= row["id"] < high and row["id"] & 0xFF == 0, row["id"], "id of a debate")
    return [check_debate(run, row, texts.get(row["id"], {})) for row in rows]


def main():
    run = Run(sys.argv[1], " ".join(sys.argv[2:]))
    steps = run.rows("SELECT count(*) AS n FROM steps")[0]["n"]
    check(steps > 0, "no step is done")
    for step in range(steps):
        debates = debates_of(run, step, False)
        failed = run.metrics(step)["failed"]
        check(run.online or len(debates) + failed == int(run.config["algorithm.problems"]), step,
              "debates", len(debates), "failed", failed)
        groups = [row["id"] for row in run.rows("SELECT id FROM groups WHERE step = ? ORDER BY id", step)]
        same(groups, sorted(g for debate in debates for g in debate.groups), step, "groups")
        check_step_metrics(run, step, debates)
    for version in range(steps + 1):
        check_evaluation(run, version, debates_of(run, version, True))
    recorded = run.rows("SELECT count(*) AS n FROM records")[0]["n"]
    same(recorded, sum(n for k, n in run.counted.items() if k.endswith(" records")), "records in all")
    check(recorded > 0, "no record was made: this run checks nothing")
    print(f"{sys.argv[1]}: {steps} steps,", ", ".join(f"{n} {k}" for k, n in run.counted.items()),
          "as recomputed")


main()
