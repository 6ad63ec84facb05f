/*
 * files: what the file formats share inside the model folder; not for other folders.
 *
 * Threading and ownership as in model.h.
 */
#ifndef RT_FILES_H
#define RT_FILES_H

#include "model/gguf.h"
#include "model/model.h"

/* Sizes that make a network: positive, even head size, heads a multiple of key-value heads. */
int rt_arch_check(const rt_arch *arch, rt_error *err);

/* The canonical table of an arch, without its data (free with rt_free). */
int rt_weights_table(const rt_arch *arch, rt_tensor **tensors, int *tensors_count, size_t *elements,
                     rt_error *err);

bool rt_tensor_is_vector(const rt_tensor *tensor); /* a norm weight: one dimension in files */

/* count numbers of a dtype (F32, BF16, F16) into F32 or BF16. from need not be aligned. */
void rt_words_copy(void *to, int to_dtype, const void *from, int from_dtype, size_t count);
size_t rt_dtype_bytes(int dtype); /* of F32, I32, BF16, F16 */

/* Hugging Face folders. */
int rt_hf_arch_parse(rt_arch *arch, const char *json, size_t bytes, rt_error *err);
int rt_hf_arch_load(rt_arch *arch, const char *dir, rt_error *err);
void rt_hf_config_write(const rt_arch *arch, int dtype, rt_buf *out); /* config.json */
int rt_hf_load(rt_weights **weights, const char *dir, int dtype, rt_error *err);

/* GGUF files. */
int rt_gguf_arch(rt_arch *arch, const rt_gguf *gguf, rt_error *err);
int rt_gguf_weights(rt_weights **weights, const rt_gguf *gguf, int dtype, rt_error *err);

#endif
