/*
 * gpu_ops: every operation on a device against the cpu backend, bit for bit.
 *
 * usage: gpu_ops [DEVICE]      default: cuda; exit code 77: the device cannot be opened here
 */
#include <stdio.h>

#include "model/ops/ops_world.h"

enum { SKIPPED = 77, WORLDS = 3 };

typedef struct tally {
    int passed, failed;
} tally;

/* Results in double stand in a record as pairs of words. */
static double value_at(const float *data, size_t index, bool wide)
{
    double value;
    if (!wide)
        return (double)data[index];
    memcpy(&value, data + index - index % 2, sizeof value);
    return value;
}

/* what: of which run, for the one line that is printed where bits differ. */
static void compare(tally *score, const char *name, const char *what, const float *cpu, const float *device,
                    size_t count, bool wide)
{
    size_t differ = 0, first = 0;
    for (size_t i = count; i-- > 0;)
        if (memcmp(cpu + i, device + i, sizeof(float)) != 0) {
            differ++;
            first = i;
        }
    score->passed += differ == 0;
    score->failed += differ > 0;
    if (differ > 0)
        printf("%s, %s: %zu of %zu words differ, the first is %zu: %.17g, on cpu %.17g\n", name, what, differ,
               count, first, value_at(device, first, wide), value_at(cpu, first, wide));
}

static void compare_world(tally *score, rt_ops *cpu, rt_ops *device, int kind, int piece)
{
    world *w = world_of(kind);
    record *a = world_run(cpu, w, piece), *b = world_run(device, w, piece);
    char what[64];
    snprintf(what, sizeof what, "world %d, %d rows a call", kind, piece);
    for (int i = 0; i < R_COUNT; i++)
        compare(score, world_names[i], what, a->data[i], b->data[i], a->count[i],
                i == R_DOT || i == R_GRAM || i == R_CHANGE);
    record_free(a);
    record_free(b);
    world_free(w);
}

/* y (R, N), dx (R, K) and dw (N, K) of one matrix, in memory of the process. */
typedef struct products {
    float *y, *dx, *dw;
} products;

static float *download(rt_ops *ops, float *from, size_t count)
{
    float *to = rt_alloc(count * sizeof(float));
    ops->download(ops, to, from, count * sizeof(float));
    ops->free(ops, from);
    return to;
}

static products multiply(rt_ops *ops, int n, int k, int rows)
{
    size_t nk = (size_t)n * (size_t)k, rk = (size_t)rows * (size_t)k, rn = (size_t)rows * (size_t)n;
    size_t one = sizeof(float);
    float *w = world_random(1, nk), *x_host = world_random(2, rk), *dy_host = world_random(3, rn);
    float *x = world_upload(ops, x_host, rk * one), *dy = world_upload(ops, dy_host, rn * one);
    float *y = ops->alloc(ops, rn * one), *dx = ops->alloc(ops, rk * one), *dw = ops->alloc(ops, nk * one);
    rt_packed *packed = ops->pack(ops, NULL, w, RT_F32, 0, n, n, k);
    ops->matmul(ops, y, n, x, k, packed, rows, false);
    ops->matmul_dx(ops, dx, k, dy, n, packed, rows, false);
    ops->matmul_dw(ops, dw, dy, n, x, k, rows, n, k);
    products result = {download(ops, y, rn), download(ops, dx, rk), download(ops, dw, nk)};
    ops->packed_free(ops, packed);
    ops->free(ops, x);
    ops->free(ops, dy);
    rt_free(w), rt_free(x_host), rt_free(dy_host);
    return result;
}

static void products_free(products *p)
{
    rt_free(p->y), rt_free(p->dx), rt_free(p->dw);
}

/* Chains beyond one block of a cache, several blocks of rows. */
static void compare_long(tally *score, rt_ops *cpu, rt_ops *device, int n, int k, int rows)
{
    products a = multiply(cpu, n, k, rows), b = multiply(device, n, k, rows);
    char what[64];
    snprintf(what, sizeof what, "%d rows, %d to %d", rows, k, n);
    compare(score, "matmul", what, a.y, b.y, (size_t)rows * (size_t)n, false);
    compare(score, "matmul_dx", what, a.dx, b.dx, (size_t)rows * (size_t)k, false);
    compare(score, "matmul_dw", what, a.dw, b.dw, (size_t)n * (size_t)k, false);
    products_free(&a);
    products_free(&b);
}

int main(int argc, char **argv)
{
    static const int pieces[] = {WORLD_ROWS, 1, 7, 16, 33};
    rt_ops *cpu = NULL, *device = NULL;
    rt_error err;
    int code = rt_ops_open(&device, argc > 1 ? argv[1] : "cuda", 2, &err);
    if (code != RT_OK) {
        printf("skipped: %s\n", err.message);
        return SKIPPED;
    }
    code = rt_ops_open(&cpu, "cpu", 1, &err);
    if (code != RT_OK) {
        fprintf(stderr, "gpu_ops: %s\n", err.message);
        return rt_exit_code(code);
    }
    printf("%s %s against %s %s\n", device->name, device->isa, cpu->name, cpu->isa);
    tally score = {0};
    for (int kind = 0; kind < WORLDS; kind++)
        for (size_t i = 0; i < RT_COUNT(pieces); i++)
            compare_world(&score, cpu, device, kind, pieces[i]);
    compare_long(&score, cpu, device, 35, 1001, 410);
    compare_long(&score, cpu, device, 700, 512, 300);
    printf("%d passed, %d failed\n", score.passed, score.failed);
    rt_ops_free(&cpu);
    rt_ops_free(&device);
    return score.failed > 0;
}
