/* Batches as they arrive: what a hostile or mistaken one may say is refused before any of it is used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "learner/role.h"

enum { COUNT = 2, PROMPT = 2, RESPONSE = 3 };

typedef struct world {
    rt_config config;
    Retake__Sequence sequences[COUNT];
    Retake__Sequence *list[COUNT];
    Retake__Batch batch;
    int32_t ids[COUNT * (PROMPT + RESPONSE)];
    float logp[COUNT * RESPONSE];
    rt_frame frames[2];
} world;

static world *world_new(int64_t rank)
{
    world *w = rt_alloc(sizeof *w);
    w->config.algorithm.plan = "debate";
    w->config.algorithm.debate.agents = 3;
    w->config.algorithm.debate.adapters = RT_OWN;
    w->config.learner.lora.rank = rank;
    for (int i = 0; i < COUNT; i++) {
        w->sequences[i] = (Retake__Sequence)RETAKE__SEQUENCE__INIT;
        w->sequences[i].trajectory = (uint64_t)i + 1;
        w->sequences[i].prompt_tokens = PROMPT;
        w->sequences[i].response_tokens = RESPONSE;
        w->sequences[i].start_case = RETAKE__SEQUENCE__START_SUFFIX_START;
        w->sequences[i].signal_case = RETAKE__SEQUENCE__SIGNAL_ADVANTAGE;
        w->sequences[i].weights_version = 4;
        w->list[i] = &w->sequences[i];
    }
    w->batch = (Retake__Batch)RETAKE__BATCH__INIT;
    w->batch.step = w->batch.weights_version = 4;
    w->batch.n_sequences = COUNT;
    w->batch.sequences = w->list;
    for (size_t i = 0; i < RT_COUNT(w->ids); i++)
        w->ids[i] = (int32_t)i;
    w->frames[0] = (rt_frame){.data = w->ids, .bytes = sizeof w->ids};
    w->frames[1] = (rt_frame){.data = w->logp, .bytes = sizeof w->logp};
    return w;
}

static rt_job *read_batch(const world *w, rt_error *err)
{
    *err = (rt_error){0};
    return rt_job_step(&w->config, &w->batch, w->frames, 2, err);
}

static void refused(const world *w, const char *why)
{
    rt_error err;
    assert_null(read_batch(w, &err));
    if (!strstr(err.message, why))
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void every_field_arrives(void **state)
{
    (void)state;
    world *w = world_new(4);
    rt_error err;
    w->sequences[0].adapter = 3;
    w->sequences[0].rejected = 2;
    w->sequences[0].advantage = -1.5;
    w->sequences[1].unsampled = true;
    rt_job *job = read_batch(w, &err);
    assert_non_null(job);
    const rt_sequence *q = job->sequences;
    assert_int_equal(job->count, COUNT);
    assert_int_equal(q[0].adapter, 3);
    assert_int_equal(q[0].rejected, 2);
    assert_true(q[0].advantage == -1.5);
    assert_true(!q[0].stale && q[0].old_logp == job->old_logp);
    /* What was not sampled behind its prompt has nothing to compare with or to divide by. */
    assert_true(q[1].stale && q[1].old_logp == NULL);
    assert_int_equal(q[1].ids[0], PROMPT + RESPONSE);
    rt_job_free(job);
    w->sequences[1].unsampled = false;
    w->sequences[1].weights_version = 3;
    job = read_batch(w, &err);
    assert_true(job && job->sequences[1].stale && job->sequences[1].old_logp == job->old_logp + RESPONSE);
    rt_job_free(job);
    rt_free(w);
}

/* The run store keeps the plain advantage; a task that the config does not list is refused later. */
static void advantages_are_scaled_by_task(void **state)
{
    (void)state;
    world *w = world_new(0);
    rt_error err;
    w->config.tasks_count = 2;
    w->config.tasks[0].advantage_scale = 1;
    w->config.tasks[1].advantage_scale = 0.5;
    w->sequences[0].advantage = -1.7;
    w->sequences[1].advantage = 3;
    w->sequences[1].task = 1;
    rt_job *job = read_batch(w, &err);
    assert_true(job && job->sequences[0].advantage == -1.7 && job->sequences[1].advantage == 1.5);
    rt_job_free(job);
    w->sequences[1].task = 2;
    job = read_batch(w, &err);
    assert_true(job && job->sequences[1].task == 2 && job->sequences[1].advantage == 3);
    rt_job_free(job);
    rt_free(w);
}

static void links_to_nowhere_are_refused(void **state)
{
    (void)state;
    world *w = world_new(4);
    w->sequences[1].rejected = COUNT + 1;
    refused(w, "number 3 of 2");
    w->sequences[1].rejected = UINT32_MAX;
    refused(w, "of 2 sequences");
    w->sequences[1].rejected = 0;
    w->sequences[1].adapter = 4;
    refused(w, "adapter 4 of 3");
    w->sequences[1].adapter = UINT32_MAX;
    refused(w, "of 3");
    w->config.learner.lora.rank = 0;
    w->sequences[1].adapter = 1;
    refused(w, "adapter 1 of 0");
    rt_free(w);
}

static void guesses_are_refused(void **state)
{
    (void)state;
    world *w = world_new(0);
    w->sequences[1].advantage = NAN;
    refused(w, "without an advantage");
    w->sequences[1].advantage = 0;
    w->sequences[1].signal_case = RETAKE__SEQUENCE__SIGNAL__NOT_SET;
    refused(w, "without an advantage");
    w->sequences[1].signal_case = RETAKE__SEQUENCE__SIGNAL_ADVANTAGE;
    w->sequences[0].suffix_start = RESPONSE + 1;
    refused(w, "past its end");
    w->sequences[0].suffix_start = 0;
    w->sequences[0].prompt_tokens = UINT32_MAX;
    refused(w, "frames");
    w->sequences[0].prompt_tokens = 0;
    refused(w, "no prompt");
    w->sequences[0].prompt_tokens = PROMPT;
    w->frames[1].bytes -= sizeof(float);
    refused(w, "frames");
    rt_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_arrives),
        cmocka_unit_test(advantages_are_scaled_by_task),
        cmocka_unit_test(links_to_nowhere_are_refused),
        cmocka_unit_test(guesses_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
