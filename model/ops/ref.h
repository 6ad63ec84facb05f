/* The two halves of the ref backend. */
#ifndef RT_OPS_REF_H
#define RT_OPS_REF_H

#include "model/ops/host.h"

void rt_ref_fill_attention(rt_ops *ops);

#endif
