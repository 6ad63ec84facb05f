/* Any config.json: refused, or an architecture that is written and read back the same. */
#include "model/files.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    rt_arch arch = {0}, again = {0};
    rt_error err;
    if (rt_hf_arch_parse(&arch, (const char *)data, bytes, &err) != RT_OK) {
        return 0;
    }
    rt_buf text = {0};
    rt_hf_config_write(&arch, RT_F32, &text);
    int code = rt_hf_arch_parse(&again, text.data, text.bytes, &err);
    RT_ASSERT(code == RT_OK);
    RT_ASSERT(arch.layers == again.layers && arch.d == again.d && arch.f == again.f);
    RT_ASSERT(arch.norm_eps == again.norm_eps && arch.rope_theta == again.rope_theta);
    RT_ASSERT(arch.rope_factor == again.rope_factor && arch.rope_high == again.rope_high);
    RT_ASSERT(arch.bos == again.bos && arch.eos_count == again.eos_count);
    RT_ASSERT(memcmp(arch.eos, again.eos, sizeof arch.eos) == 0 && arch.tied == again.tied);
    rt_buf_free(&text);
    return 0;
}
