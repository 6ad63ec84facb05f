#!/bin/sh
# JSONL filters: one line out for each line in, in order; a bad line is answered in its place, the rest
# goes on, and the exit code says so.
. tests/e2e/lib.sh
make_model

filter() { # name, exit code, lines expected, command… < input
    name=$1 code=$2 lines=$3
    shift 3
    "$RETAKE" "$@" <"$work/in.jsonl" >"$work/$name.jsonl" 2>"$work/$name.err"
    same $? "$code" "$name: exit code"
    same "$(grep -c . "$work/$name.jsonl")" "$lines" "$name: lines"
}
line() { # name, line, path → value
    sed -n "$2p" "$work/$1.jsonl" | "$PEEK" json "$3"
}

# ---- tokenize, there and back
cat >"$work/in.jsonl" <<'END'
{"text":"Q:1+8+2\n1+8=9</thought>"}
{"text":""}
{"text":"äöü 数学 🎲"}
END
filter tokenize 0 3 tokenize "$work/model"
same "$(line tokenize 2 'ids#')" 0 "ids of an empty text"
cp "$work/tokenize.jsonl" "$work/in.jsonl"
filter text 0 3 tokenize "$work/model"
same "$(line text 1 text)" "$(printf 'Q:1+8+2\n1+8=9</thought>')" "text there and back"
same "$(line text 3 text)" "äöü 数学 🎲" "text in UTF-8 there and back"

cat >"$work/in.jsonl" <<'END'
{"text":"1"}
no json
{"text":7}
{"ids":[1,2,100000]}
{"ids":[-1]}
{}
[]
{"text":"2"}
END
filter bad-lines 1 8 tokenize "$work/model"
for i in 2 3 4 5 6 7; do
    line bad-lines $i error >/dev/null || fail "line $i is not answered with an error: $(sed -n ${i}p "$work/bad-lines.jsonl")"
done
same "$(line bad-lines 1 'ids#')" 1 "the line before the bad ones"
same "$(line bad-lines 8 'ids#')" 1 "the line after the bad ones"

# The embedded model has no marks: a conversation is its contents, one after another.
cat >"$work/in.jsonl" <<'END'
{"messages":[{"role":"user","content":"Q:1+8\n"},{"role":"assistant","content":"1+8=9"},{"role":"user","content":"P:<|end|>\n"}],"add_generation_prompt":true}
{"messages":[]}
{"messages":[{"role":"user"}]}
{"messages":[{"role":"user","content":"x"}],"add_generation_prompt":1}
END
filter messages 1 4 tokenize "$work/model"
same "$(line messages 1 text)" "$(printf 'Q:1+8\n1+8=9\nP:<|end|>')" "text of a conversation"
case ",$(line messages 1 ids | tr -d '[] ')," in
*,0,*) fail "content became the token <|end|>" ;;
esac
for i in 2 3 4; do
    line messages $i error >/dev/null || fail "messages: line $i is not answered with an error"
done
say "ok: tokenize"

# ---- score
cat >"$work/in.jsonl" <<'END'
{"ids":[49,26,17,11,24]}
{"ids":[]}
{"ids":[49]}
{"ids":"no"}
{"ids":[49,26,17]}
END
filter score 1 5 score "$work/model"
same "$(line score 1 'logprobs#')" 5 "log-probs of five ids"
same "$(line score 1 logprobs.0)" null "log-prob of the first id"
same "$(line score 2 'logprobs#')" 0 "log-probs of no ids"
same "$(line score 3 'logprobs#')" 1 "log-probs of one id"
line score 4 error >/dev/null || fail "ids that are a text are not refused"
# A prefix is scored alike, whatever follows it.
same "$(line score 5 logprobs.2)" "$(line score 1 logprobs.2)" "log-prob of the same prefix"
ids=$(seq -s, 1 280 | sed 's/[0-9]*/1/g')
echo "{\"ids\":[$ids]}" >"$work/in.jsonl"
filter too-long 1 1 score "$work/model"
line too-long 1 error | grep -q 256 || fail "the context is not named"
echo '{"ids":[49,26,17,11,24]}' >"$work/in.jsonl"
filter threads 0 1 score "$work/model" --threads 1
same "$(cat "$work/threads.jsonl")" "$(sed -n 1p "$work/score.jsonl")" "scores with one thread"
say "ok: score"

# ---- generate: seeded, and its log-probs are those of score, bit for bit
cat >"$work/in.jsonl" <<'END'
{"text":"Q:1+8+2-7-2\n","n":3,"max_tokens":40,"temperature":1,"seed":7}
{"text":"Q:1+8+2-7-2\n","max_tokens":40,"temperature":0}
{"n":1}
{"text":"Q:1","temperature":-1}
{"ids":[49,26,17],"max_tokens":5,"seed":1}
END
filter generate 1 5 generate "$work/model"
filter generate-again 1 5 generate "$work/model" --threads 1
cmp "$work/generate.jsonl" "$work/generate-again.jsonl" || fail "the same seed gives other texts"
same "$(line generate 1 'completions#')" 3 "completions of n = 3"
line generate 3 error >/dev/null || fail "a request without text is not refused"
line generate 4 error >/dev/null || fail "a negative temperature is not refused"
prompt=$(printf '{"text":"Q:1+8+2-7-2\\n"}\n' | "$RETAKE" tokenize "$work/model" | "$PEEK" json ids)
for i in 0 1 2; do
    same "$(line generate 1 "completions.$i.ids#")" "$(line generate 1 "completions.$i.logprobs#")" "a log-prob a token"
    case $(line generate 1 completions.$i.finish) in
    eos | stop | length) ;;
    *) fail "unknown finish $(line generate 1 completions.$i.finish)" ;;
    esac
    answer=$(line generate 1 completions.$i.ids)
    skip=$(echo "$prompt" | tr -cd , | wc -c)
    echo "{\"ids\":${prompt%]},${answer#[}}" | "$RETAKE" score "$work/model" >"$work/of.jsonl" || fail "score"
    scored=$("$PEEK" json logprobs <"$work/of.jsonl" | tr -d '[]' | cut -d, -f$((skip + 2))-)
    same "$scored" "$(line generate 1 completions.$i.logprobs | tr -d '[]')" "log-probs of generate and of score"
done
say "ok: generate"

# ---- grade
cat >"$work/in.jsonl" <<'END'
{"response":"so \\boxed{1/2}","gold":"0.5"}
{"response":"so \\boxed{3}","gold":"0.5"}
{"response":"no answer","gold":"0.5"}
{"response":5}
END
filter grade 1 4 grade
same "$(line grade 1 grade)" correct "a half"
same "$(line grade 2 grade)" wrong "three"
[ "$(line grade 3 grade)" != correct ] || fail "no answer is graded correct"
line grade 4 error >/dev/null || fail "a response that is no text is not refused"
refused grader 2 "what" -- "$RETAKE" grade --grader what

# Programs; where they can't be run, one sentence and every grade undecided.
cat >"$work/in.jsonl" <<'END'
{"response":"```python\nprint(2*int(input()))\n```","gold":"{\"tests\":[{\"input\":\"4\",\"output\":\"8\"},{\"input\":\"1\",\"output\":\"2\"}]}"}
{"response":"print(8)","gold":"{\"tests\":[{\"input\":\"4\",\"output\":\"8\"},{\"input\":\"1\",\"output\":\"2\"}]}"}
{"response":"print(8)","gold":"8"}
END
filter code 0 3 grade --grader code
if [ -s "$work/code.err" ]; then
    check_sentence "$work/code.err" "programs can't be graded" "undecided"
    say "not tested here: programs: $(cat "$work/code.err")"
else
    same "$(line code 1 grade)" correct "a right program"
    same "$(line code 2 grade)" wrong "a program that passes one test of two"
    same "$(line code 2 reward)" 0.5 "its reward"
    line code 2 detail | grep -q "test 2 of 2" || fail "detail: $(line code 2 detail)"
fi
same "$(line code 3 grade)" undecided "a gold answer without tests"
RETAKE_PYTHON=/nowhere/python3
export RETAKE_PYTHON
filter no-python 0 3 grade --grader code
check_sentence "$work/no-python.err" "programs can't be graded" "/nowhere/python3" "undecided"
for i in 1 2 3; do same "$(line no-python $i grade)" undecided "a program without Python"; done
unset RETAKE_PYTHON

# Nothing in, nothing out; a last line without an end counts.
: >"$work/in.jsonl"
filter nothing 0 0 grade
printf '{"response":"\\\\boxed{2}","gold":"2"}' >"$work/in.jsonl"
filter no-newline 0 1 grade
same "$(line no-newline 1 grade)" correct "a last line without an end"
say "ok: grade"
