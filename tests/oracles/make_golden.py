#!/usr/bin/env python3
"""Makes tests/golden/llama: a small random Llama folder and its reference file for `retake verify`.

Needs torch, safetensors and transformers (pip install torch safetensors transformers). The network is
transformers' own LlamaForCausalLM in float64, so the reference is somebody else's program, not ours:
  python3 tests/oracles/make_golden.py tests/golden
Untied head, grouped queries, head size other than hidden / heads, llama3 rope scaling: every branch
of the family in one file of 60 KB.
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=24, intermediate_size=40,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, vocab_size=48,
    max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False,
    attention_bias=False, mlp_bias=False, hidden_act="silu", bos_token_id=None, eos_token_id=0,
    rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                      original_max_position_embeddings=16),
)


def main(out):
    torch.manual_seed(20)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG)).to(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.1 if "norm" in name else 0.2)
    folder = os.path.join(out, "llama")
    os.makedirs(folder, exist_ok=True)
    weights = {k: v.detach().clone().contiguous() for k, v in model.named_parameters()}
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(CONFIG, f, indent=2)
        f.write("\n")

    # float64 throughout: what is compared is our float32, not two float32 programs.
    torch.set_default_dtype(torch.float64)
    exact = LlamaForCausalLM(LlamaConfig(**CONFIG)).to(torch.float64)
    exact.load_state_dict({k: v.to(torch.float64) for k, v in weights.items()}, strict=True)
    generator = torch.Generator().manual_seed(21)
    lengths = [37, 1, 18, 2]
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    weight = torch.zeros(len(lengths), max(lengths))
    for b, length in enumerate(lengths):
        ids[b, :length] = torch.randint(0, CONFIG["vocab_size"], (length,), generator=generator)
        weight[b, 1:length] = torch.randn(length - 1, generator=generator)
        weight[b, 5:9] = 0
    logits = torch.zeros(len(lengths), max(lengths), CONFIG["vocab_size"])
    loss = torch.zeros(())
    for b, length in enumerate(lengths):
        out_b = exact(ids[b:b + 1, :length]).logits[0]
        logits[b, :length] = out_b.detach()
        logp = torch.log_softmax(out_b[:-1], -1).gather(1, ids[b, 1:length, None])[:, 0]
        loss = loss - (weight[b, 1:length] * logp).sum()
    loss.backward()
    reference = {
        "ids": ids.to(torch.int32), "length": torch.tensor(lengths, dtype=torch.int32),
        "weight": weight.to(torch.float32), "logits": logits.to(torch.float32),
        "loss": loss.detach().to(torch.float32).reshape(1),
    }
    for name, parameter in exact.named_parameters():
        reference["grad." + name] = parameter.grad.to(torch.float32).contiguous()
    save_file(reference, os.path.join(out, "llama.ref.safetensors"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
