#!/usr/bin/env python3
"""Opens a folder written by retake in transformers and compares log-probs with `retake score`.

  python3 tests/oracles/transformers_check.py build/release/retake FOLDER
Run by hand (needs torch and transformers); prints the largest difference.
"""
import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM


def main(retake, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(torch.float64)
    generator = torch.Generator().manual_seed(5)
    lines = [torch.randint(0, model.config.vocab_size, (n,), generator=generator).tolist()
             for n in (2, 17, 60)]
    text = "".join(json.dumps({"ids": ids}) + "\n" for ids in lines)
    answer = subprocess.run([retake, "score", folder], input=text, capture_output=True, text=True,
                            check=True).stdout.splitlines()
    worst = 0.0
    for ids, line in zip(lines, answer):
        ours = json.loads(line)["logprobs"][1:]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        theirs = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        worst = max(worst, (torch.tensor(ours) - theirs).abs().max().item())
    print(f"largest log-prob difference {worst:.2e} over {sum(map(len, lines))} tokens")
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
