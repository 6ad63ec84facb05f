/*
 * gguf: a read-only view of a GGUF file (versions 2 and 3, little endian): its metadata and the
 * table of its tensors. Every count, length and offset is checked against the file before use,
 * so that a value handed out here always lies inside the mapped bytes.
 *
 * Threading: read-only after opening, may be shared. Ownership: what is handed out belongs to
 * the rt_gguf and ends with it. Text is not NUL-terminated: use the byte count.
 */
#ifndef RT_GGUF_H
#define RT_GGUF_H

#include "base/base.h"
#include "base/config.h"

typedef struct rt_gguf rt_gguf;

enum rt_gguf_type {
    RT_GGUF_U8, RT_GGUF_I8, RT_GGUF_U16, RT_GGUF_I16, RT_GGUF_U32, RT_GGUF_I32, RT_GGUF_F32,
    RT_GGUF_BOOL, RT_GGUF_STRING, RT_GGUF_ARRAY, RT_GGUF_U64, RT_GGUF_I64, RT_GGUF_F64
};

/* An array value. Elements are read with the functions below. */
typedef struct rt_gguf_array {
    int type;               /* enum rt_gguf_type of its elements, never RT_GGUF_ARRAY */
    size_t count;
    const uint8_t *data;    /* first element */
    const size_t *starts;   /* (count) offset from data of each text; NULL for numbers */
} rt_gguf_array;

typedef struct rt_gguf_tensor {
    char name[96];
    int dtype;              /* enum rt_dtype, −1 for a storage type that is not read */
    uint32_t ggml_type;     /* as stored */
    int dims;
    uint64_t shape[4];      /* shape[0] changes fastest; 1 beyond dims */
    uint64_t count;         /* elements */
    const void *data;       /* NULL when dtype is −1 */
    size_t bytes;
} rt_gguf_tensor;

int rt_gguf_open(rt_gguf **gguf, const char *path, rt_error *err); /* maps the file */
int rt_gguf_parse(rt_gguf **gguf, const void *data, size_t bytes, rt_error *err); /* borrows */
void rt_gguf_close(rt_gguf **gguf);

/* False when the key is missing or of another type. */
bool rt_gguf_has(const rt_gguf *gguf, const char *key);
bool rt_gguf_text(const rt_gguf *gguf, const char *key, const char **text, size_t *bytes);
bool rt_gguf_integer(const rt_gguf *gguf, const char *key, int64_t *value); /* any integer, bool */
bool rt_gguf_number(const rt_gguf *gguf, const char *key, double *value);   /* any number */
bool rt_gguf_array_find(const rt_gguf *gguf, const char *key, rt_gguf_array *array);

/* Element `index` < count. Asking for text of numbers or the reverse is a programmer error. */
const char *rt_gguf_array_text(const rt_gguf_array *array, size_t index, size_t *bytes);
int64_t rt_gguf_array_integer(const rt_gguf_array *array, size_t index);
double rt_gguf_array_number(const rt_gguf_array *array, size_t index);

int rt_gguf_tensors_count(const rt_gguf *gguf);
const rt_gguf_tensor *rt_gguf_tensor_at(const rt_gguf *gguf, int index); /* sorted by name */
const rt_gguf_tensor *rt_gguf_tensor_find(const rt_gguf *gguf, const char *name); /* NULL: none */

#endif
