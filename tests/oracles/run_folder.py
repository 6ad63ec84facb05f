"""What the checks of a run need to read it: its config, and its random numbers, written from their
definition (Salmon et al. 2011) and not from retake's code."""
import re


def config_of(run):
    """The values of config.yaml as {dotted key: text}; enough of YAML for what retake writes."""
    values, path = {}, []
    for line in (run / "config.yaml").read_text().splitlines():
        found = re.match(r"( *)(- )?([A-Za-z_0-9.]+):(.*)", line)
        if not found:
            continue
        depth = len(found[1]) // 2
        path[depth:] = ["0", found[3]] if found[2] else [found[3]]
        text = re.sub(r"\s+#.*", "", found[4]).strip().strip("\"'")
        values[".".join(path)] = text
    return values


def philox(seed, stream, index):
    key = [seed & 0xFFFFFFFF, seed >> 32]
    c = [index & 0xFFFFFFFF, index >> 32, stream & 0xFFFFFFFF, stream >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ key[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ key[1], a & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c
