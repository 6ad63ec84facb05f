/* Any bytes: the reader accepts or refuses; what it accepts lies inside the input. */
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    rt_safetensors *file = NULL;
    rt_error err;
    if (rt_safetensors_parse(&file, data, bytes, &err) != RT_OK) {
        return 0;
    }
    for (int i = 0; i < rt_safetensors_count(file); i++) {
        const rt_st_tensor *tensor = rt_safetensors_at(file, i);
        rt_hash128 touched = rt_hash(tensor->data, tensor->bytes);
        (void)touched;
        RT_ASSERT(rt_safetensors_find(file, tensor->name) == tensor);
    }
    rt_safetensors_metadata(file, "format");
    rt_safetensors_close(&file);
    return 0;
}
