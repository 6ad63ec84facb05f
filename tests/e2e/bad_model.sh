#!/bin/sh
# Damaged and foreign models: one sentence that names the file and what is wrong, exit code 1.
. tests/e2e/lib.sh
make_config 1
weights=$work/bad/model.safetensors

fresh() { rm -rf "$work/bad" && cp -r "$work/model" "$work/bad"; }
score() { "$RETAKE" score "$work/bad"; }
bytes=$(wc -c <"$work/model/model.safetensors")

fresh
head -c $((bytes / 2)) "$work/model/model.safetensors" >"$weights"
refused truncated 1 "$weights" "cut off" -- score
fresh
printf 'abcde' >"$weights"
refused five-bytes 1 "$weights" "5 bytes" -- score
fresh
printf '\377\377\377\377\377\377\377\177' | dd of="$weights" conv=notrunc 2>/dev/null
refused header-claims-all 1 "$weights" "header" -- score

# A file of one's own: 8 bytes of length, a header, data.
safetensors() { # header, bytes of data
    size=${#1}
    {
        printf "\\$(printf %o $((size % 256)))\\$(printf %o $((size / 256)))\\0\\0\\0\\0\\0\\0"
        printf %s "$1"
        head -c "$2" /dev/zero
    } >"$weights"
}
fresh
safetensors '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}' 24
refused overlapping 1 "$weights" -- score
safetensors '{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]}}' 16
refused shape-overflow 1 "$weights" "a" -- score
safetensors '{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,16]}}' 16
refused shape-and-bytes-differ 1 "$weights" "a" -- score
safetensors '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}' 16
refused no-tensor 1 "$work/bad" "model.embed_tokens.weight" -- score

fresh
sed -i 's/LlamaForCausalLM/MambaForCausalLM/' "$work/bad/config.json"
refused unknown-architecture 1 "MambaForCausalLM" "LlamaForCausalLM" -- score
fresh
sed -i 's/"vocab_size": *[0-9]*/"vocab_size": 100/' "$work/bad/config.json"
refused other-shape 1 "model.embed_tokens.weight" "300" "100" -- score
fresh
echo '{' >"$work/bad/config.json"
refused no-json 1 "config.json" -- score
fresh
rm "$work/bad/config.json"
refused no-config 1 "config.json" -- score
fresh
rm "$work/bad/tokenizer.json"
refused no-tokenizer 1 "tokenizer.json" -- "$RETAKE" generate "$work/bad" --prompt x
refused nowhere 1 "$work/nowhere" -- "$RETAKE" score "$work/nowhere"

# A tokenizer that knows more tokens than the model: ids would lie past the embedding.
fresh
sed -i 's/"added_tokens": *\[/"added_tokens": [{"id": 4000, "content": "<|far|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},/' \
    "$work/bad/tokenizer.json"
grep -q 4000 "$work/bad/tokenizer.json" || fail "the tokenizer was not changed"
refused wrong-tokenizer 1 "300" "tokenizer" -- "$RETAKE" generate "$work/bad" --prompt x

# GGUF: counts no file can hold.
gguf() { # bytes behind magic and version
    printf 'GGUF\3\0\0\0'"$1" >"$work/bad.gguf"
}
all='\377\377\377\377\377\377\377\177'
gguf "$all"'\0\0\0\0\0\0\0\0'
refused gguf-tensors 1 "$work/bad.gguf" -- "$RETAKE" score "$work/bad.gguf"
gguf '\0\0\0\0\0\0\0\0'"$all"
refused gguf-keys 1 "$work/bad.gguf" -- "$RETAKE" score "$work/bad.gguf"
gguf '\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0'"$all"
refused gguf-key-length 1 "$work/bad.gguf" -- "$RETAKE" score "$work/bad.gguf"
gguf '\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a\11\0\0\0\4\0\0\0'"$all"
refused gguf-array 1 "$work/bad.gguf" -- "$RETAKE" score "$work/bad.gguf"
gguf ''
refused gguf-short 1 "$work/bad.gguf" -- "$RETAKE" score "$work/bad.gguf"

# The main job refuses them as well, before anything is started, and the folder stays free.
fresh
sed -i 's/LlamaForCausalLM/MambaForCausalLM/' "$work/bad/config.json"
refused run-architecture 1 "MambaForCausalLM" -- "$RETAKE" run "$config" --run "$work/run" --set model.path="$work/bad"
refused run-nowhere 1 "$work/nowhere" -- "$RETAKE" run "$config" --run "$work/run" --set model.path="$work/nowhere"
[ ! -e "$work/run/run.db" ] || fail "a refused model began a run"

# A weight that is no number: named where it is first seen, no weights are saved.
fresh
printf '\0\0\300\177' | dd of="$weights" bs=1 seek=$((bytes - 4)) conv=notrunc 2>/dev/null
refused nan-generate 1 "not finite" -- "$RETAKE" generate "$work/bad" --prompt "Q:1+1" --max-tokens 3
"$RETAKE" run "$config" --run "$work/nan" --set model.path="$work/bad" >"$work/nan.out" 2>"$work/nan.err"
same $? 1 "exit code with a weight that is no number"
grep -q "not finite" "$work/nan.err" || fail "a weight that is no number is not named"
[ ! -e "$work/nan/checkpoints/step-000001" ] || fail "weights that are no numbers were saved"
say "ok: $(tail -1 "$work/nan.err")"
