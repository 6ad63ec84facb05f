/*
 * Makes the embedded model's tokenizer.json: byte-level BPE over the text of its own task.
 *   build/release/bin/tiny_tokenizer deploy/models/tiny/sft.yaml deploy/models/tiny/tokenizer.json
 * A third argument is the size of the vocabulary; 257 leaves single bytes and the end token.
 */
#include "base/config.h"
#include "model/model.h"
#include "tasks/tasks.h"

#include <stdlib.h>

#define EXAMPLES 4000
#define VOCABULARY 300
#define VOCABULARY_MIN 257
#define VOCABULARY_MAX 65536

/* A little prose, so that what the task does not use is not left as single bytes. */
static const char prose[] =
    "the answer is the last number. first work out one step, then the next step. "
    "the step is right, the other step is wrong. agree or disagree with the answer. "
    "sort the list, count the items, sum the table, find the path to the target. ";

static int corpus_of(const rt_config *config, rt_buf *corpus, rt_error *err)
{
    rt_taskset *tasks;
    int rc = rt_taskset_load(&tasks, config, err);
    if (rc != 0)
        return rc;
    rt_buf_addf(corpus, "%s\n%s\n", prose, prose);
    rt_arena *arena = rt_arena_new(1 << 16);
    for (int i = 0; i < EXAMPLES && rc == 0; i++) {
        rt_example example = {0};
        rt_arena_reset(arena);
        rc = rt_example_next(tasks, config, i, config->sft.localize_share, arena, &example, err);
        if (rc == 0)
            rt_buf_addf(corpus, "%s%s\n", example.prompt, example.completion);
    }
    rt_arena_free(&arena);
    rt_taskset_free(&tasks);
    return rc;
}

int main(int argc, char **argv)
{
    long vocabulary = argc == 4 ? strtol(argv[3], NULL, 10) : VOCABULARY;
    if (argc < 3 || argc > 4 || vocabulary < VOCABULARY_MIN || vocabulary > VOCABULARY_MAX) {
        fprintf(stderr, "usage: tiny_tokenizer CONFIG OUT.json [VOCABULARY], %d to %d\n",
                VOCABULARY_MIN, VOCABULARY_MAX);
        return 2;
    }
    static const char *const specials[] = {"<|end|>"}, *const forbidden[] = {"</thought>", "thought>"};
    rt_config config;
    rt_error err;
    rt_buf corpus = {0}, json = {0};
    int rc = rt_config_load(&config, argv[1], NULL, 0, &err);
    if (rc == 0)
        rc = corpus_of(&config, &corpus, &err);
    if (rc == 0)
        rc = rt_tokenizer_train(corpus.data, corpus.bytes, (int)vocabulary, specials, 1, forbidden, 2, &json,
                                &err);
    if (rc == 0)
        rc = rt_file_write(argv[2], json.data, json.bytes, &err);
    if (rc != 0)
        fprintf(stderr, "tiny_tokenizer: %s\n", err.message);
    rt_buf_free(&corpus), rt_buf_free(&json);
    return rt_exit_code(rc);
}
