/* config_internal: what the config_*.c files share; nobody else includes it. */
#ifndef RT_CONFIG_INTERNAL_H
#define RT_CONFIG_INTERNAL_H

#include "base/config.h"

enum {
    RT_CONFIG_BYTES_MAX = 1 << 20,  /* of a file */
    RT_CONFIG_ENTRIES_MAX = 1024,   /* keys of a file */
    RT_CONFIG_KEY_BYTES_MAX = 120,  /* of a dotted key */
    RT_CONFIG_TEXT_BYTES_MAX = 4096 /* of a value, unless its key says less */
};

/* "No upper bound" of the table: whole numbers up to here are exact as double. */
#define RT_CONFIG_UNLIMITED 9007199254740991.0

enum rt_config_type {
    RT_KEY_INTEGER, /* int64_t */
    RT_KEY_SMALL,   /* int */
    RT_KEY_CHOICE,  /* int: place in choices */
    RT_KEY_REAL,    /* double */
    RT_KEY_BOOL,    /* bool */
    RT_KEY_TEXT,    /* char *, one of choices if there are any */
    RT_KEY_PATH     /* char *, NULL when empty */
};

typedef struct rt_config_key {
    const char *key; /* dotted; of a task entry without "tasks.N." */
    enum rt_config_type type;
    size_t offset;        /* in rt_config or rt_task_config */
    const char *standard; /* the default, as a person would type it */
    double min, max;      /* of a text: its bytes */
    const char *choices;  /* "a|b|c", NULL = free; "" may be one of them */
    bool weights;         /* may change the bits of the weights: part of the fingerprint */
    const char *help;
} rt_config_key;

extern const rt_config_key rt_config_keys[];
extern const int rt_config_keys_count;
extern const rt_config_key rt_task_keys[];
extern const int rt_task_keys_count;

typedef struct rt_config_alias {
    const char *word, *key, *help;
} rt_config_alias;
extern const rt_config_alias rt_config_aliases[]; /* top-level short forms */
extern const int rt_config_aliases_count;

/* The part before the dot has keys: learner. */
bool rt_config_group_known(const char *group, size_t bytes);

/* Sets from text; on failure nothing changed and *wanted says what is allowed. */
bool rt_config_value_set(const rt_config_key *key, void *base, const char *text, rt_buf *wanted);
void rt_config_value_default(const rt_config_key *key, void *base);
void rt_config_value_free(const rt_config_key *key, void *base);
/* As YAML: texts are quoted where they must be. */
void rt_config_value_write(const rt_config_key *key, const void *base, rt_buf *out);
/* "a whole number from 1 to 64" */
void rt_config_value_describe(const rt_config_key *key, rt_buf *out);

/* One `key: value` of a file, flattened: learner.lr, tasks.0.fields.answer. */
typedef struct rt_config_entry {
    char *key, *value; /* value NULL: a mapping or list opens here */
    int line;          /* 0: from --set */
    bool list;         /* what opens is a list */
    bool empty;        /* plain and empty, or null */
} rt_config_entry;

typedef struct rt_config_entries {
    rt_config_entry *items;
    int count;
} rt_config_entries;

int rt_config_yaml(const char *text, size_t bytes, const char *from, rt_config_entries *out,
                   rt_error *err);
int rt_config_entries_add(rt_config_entries *entries, rt_config_entry entry, rt_error *err);
void rt_config_entries_free(rt_config_entries *entries);

/* Last: fills what follows from other keys, refuses what does not fit together. */
int rt_config_resolve(rt_config *config, rt_error *err);

#endif
