/* What the emulator's own files share. */
#ifndef RT_CUDA_EMULATOR_INTERNAL_H
#define RT_CUDA_EMULATOR_INTERNAL_H

#include "cuda_runtime.h"

/* A sentence, and the end of the program. */
[[noreturn]] void emulated_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Opens memory of the device for a launch or a copy, or closes it. */
void emulated_memory(bool open);

/* The next cudaGetLastError tells that a launch was impossible. */
void emulated_refuse_launch(void);

#endif
