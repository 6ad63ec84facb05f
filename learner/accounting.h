/*
 * accounting: whose gradient is how long. Between two looks at the gradient that an optimizer step
 * gathers, all that was added came from one prompt of one class: a task, a kind of group and so on.
 * Looking changes no bit of the gradient. Private to learner/.
 *
 * Threading: one thread. Lengths are in units of the gradient of a batch of that prompt alone.
 * Letters: K classes, n prompts of a class, S their summed gradient, g one of them.
 */
#ifndef RT_ACCOUNTING_H
#define RT_ACCOUNTING_H

#include "learner/learner.h"

enum { RT_CLASSES_MAX = RT_TASKS_MAX };

/* What is known of a class after the optimizer steps of one step. Squares are of the mean gradient of
 * a prompt; NAN: not known, for want of prompts. */
typedef struct rt_class_account {
    int64_t prompts, live;  /* live: with any gradient at all */
    double norm2;           /* unbiased: (|S|² − Σ|g|²) / (n (n − 1)); may be negative */
    double norm2_live;      /* the same over the live ones alone */
    double naive;           /* |S|² / n² */
    double halves;          /* product of the mean gradients of two halves of the prompts */
    double norm2_block;     /* norm2 of the last layer, where more than that is accounted for */
    double share;           /* S·G / |G|², with G the sum over all classes: adds up to 1 */
    double cosine;          /* of S and G */
    double cosines[RT_CLASSES_MAX]; /* of S and that of each other class */
    double advantage;       /* mean |A| of its sequences */
    double correlation;     /* over its prompts, of |g| and mean |A| */
} rt_class_account;

typedef struct rt_accounts rt_accounts;

/* Part of the gradient vector that is looked at: [at, at + count) at stride·adapter further on for
 * each adapter; [block, block + block_count) of it, counted from its begin, is the last layer. more:
 * lookups (rt_trainer_set_lookups) of the `more_count` elements from more_at on, or NULL. */
typedef struct rt_account_span {
    size_t at, count, block, block_count;
    const float *more;
    size_t more_at, more_count;
} rt_account_span;

rt_accounts *rt_accounts_new(rt_ops *ops, const rt_account_span *span, bool halves); /* borrows ops */
void rt_accounts_free(rt_accounts **accounts);

/* A step begins: forgets what was known. */
void rt_accounts_clear(rt_accounts *accounts);
/* An optimizer step begins: the gradient is zero. skip: its vector begins so much further on. */
void rt_accounts_begin(rt_accounts *accounts, size_t skip);
/* What was added to grad since the last look is of this class; half (0 or 1) is the prompt's. */
void rt_accounts_look(rt_accounts *accounts, int class, int half, double advantage, const float *grad);
/* A prompt without any gradient. */
void rt_accounts_flat(rt_accounts *accounts, int class, int half, double advantage);
/* The optimizer step is gathered; units: prompts of its batch. gram (K, K) receives the products of
 * the classes' sums. */
void rt_accounts_end(rt_accounts *accounts, int units, double *gram);
/* grad (the vector from `skip` on, zeroed by the caller) += Σ weight[k]·S of class k. */
void rt_accounts_combine(const rt_accounts *accounts, const double *weight, float *grad);

/* After all optimizer steps. false: nothing is known of the class. */
bool rt_accounts_class(const rt_accounts *accounts, int class, rt_class_account *out);
/* Over all prompts of the step: correlation of |g| with mean |A|, and with |g| of the last layer. */
double rt_accounts_correlation(const rt_accounts *accounts);
double rt_accounts_block_correlation(const rt_accounts *accounts);

#endif
