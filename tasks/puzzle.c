/* puzzle: splits, solutions, slips and thoughts of the tasks countdown, sort, path and table. */
#include "tasks/puzzle.h"

#include <ctype.h>
#include <string.h>

/* As for chain: 0.9^2000 that a split which is not empty is missed so often. */
enum { DRAWS_MAX = 2000, HELD_OUT_OF = 10, DICE_MAX = 4096 };

static const char BOX[] = "\\boxed{", SPACE[] = " \t\r\n";

const rt_puzzle_kind *rt_puzzle_kind_of(const char *task_name)
{
    static const rt_puzzle_kind *const kinds[] = {&rt_puzzle_countdown, &rt_puzzle_sort,
                                                  &rt_puzzle_path, &rt_puzzle_table};
    for (size_t i = 0; task_name && i < RT_COUNT(kinds); i++) {
        size_t bytes = strlen(kinds[i]->name);
        if (!strncmp(task_name, kinds[i]->name, bytes) &&
            (!task_name[bytes] || task_name[bytes] == '_')) {
            return kinds[i];
        }
    }
    return NULL;
}

static int check(const rt_puzzle_kind *kind, const rt_task_config *task, rt_error *err)
{
    const char *name = task->name;
    if (task->thoughts_min < 1 || task->thoughts_max > kind->thoughts_most ||
        task->thoughts_min > task->thoughts_max) {
        return rt_fail(
            err, RT_ERR_USAGE, "task %s: thoughts %lld to %lld is no range within 1 to %d", name,
            (long long)task->thoughts_min, (long long)task->thoughts_max, kind->thoughts_most);
    }
    if (task->modulus < 2 || task->modulus > kind->modulus_most) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: modulus %lld is outside 2 to %d", name,
                       (long long)task->modulus, kind->modulus_most);
    }
    if (task->size && (task->size < 2 || task->size > kind->size_most)) {
        return kind->size_most
                   ? rt_fail(err, RT_ERR_USAGE, "task %s: size %lld is neither 0 nor 2 to %d", name,
                             (long long)task->size, kind->size_most)
                   : rt_fail(err, RT_ERR_USAGE,
                             "task %s has no size; its number of thoughts says "
                             "how large a problem is",
                             name);
    }
    if (task->filler < 0 || task->filler > RT_FORK_FILLER_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: filler %lld is outside 0 to %d", name,
                       (long long)task->filler, RT_FORK_FILLER_MAX);
    }
    if (!(task->slip >= 0 && task->slip <= 1) || !(task->hard >= 0 && task->hard <= 1) ||
        (task->hard > 0 && task->slip > task->hard)) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: a share of %g hard facts can't bring errors to %g "
                       "of all thoughts; slip may be at most hard",
                       name, task->hard, task->slip);
    }
    return RT_OK;
}

int rt_puzzle_init(rt_puzzle *puzzle, const rt_puzzle_kind *kind, const rt_task_config *task,
                   uint64_t seed, rt_error *err)
{
    int code = check(kind, task, err);
    if (code) {
        return code;
    }
    *puzzle = (rt_puzzle){.kind = kind,
                          .thoughts_min = (int)task->thoughts_min,
                          .thoughts_max = (int)task->thoughts_max,
                          .modulus = (int)task->modulus,
                          .size = (int)task->size,
                          .filler = (int)task->filler,
                          .slip = task->slip,
                          .hard = task->hard,
                          .seed = seed,
                          .stream = rt_hash64(task->name, strlen(task->name), 0)};
    const char *why = kind->refuses ? kind->refuses(puzzle) : NULL;
    return why ? rt_fail(err, RT_ERR_USAGE, "task %s: %s", task->name, why) : RT_OK;
}

/* ---- problems ---------------------------------------------------------------------------- */

/* By the text alone, as for chain: held out in every run. */
static int split_of(const rt_buf *text)
{
    return rt_hash64(text->data, text->bytes, 0) % HELD_OUT_OF == 0 ? RT_EVAL : RT_TRAIN;
}

static int draw(const rt_puzzle *puzzle, int split, uint64_t index, rt_buf *text, rt_error *err)
{
    int range = puzzle->thoughts_max - puzzle->thoughts_min + 1;
    for (uint64_t attempt = 0; attempt < DRAWS_MAX; attempt++) {
        rt_dice dice = {puzzle->seed,
                        puzzle->stream + RT_STREAM_PUZZLE + attempt * 0x9E3779B97F4A7C15u,
                        (2 * index + (uint64_t)split) * DICE_MAX};
        int thoughts = puzzle->thoughts_min + rt_dice_below(&dice, range);
        rt_buf_clear(text);
        bool drawn = puzzle->kind->draw(puzzle, thoughts, &dice, text);
        RT_ASSERT(dice.at <= (2 * index + (uint64_t)split + 1) * DICE_MAX);
        if (drawn && split_of(text) == split) {
            return RT_OK;
        }
    }
    return rt_fail(err, RT_ERR_USAGE,
                   "task %s: so few problems of %d to %d thoughts with numbers below %d exist that "
                   "none is %s; raise thoughts_max or modulus",
                   puzzle->kind->name, puzzle->thoughts_min, puzzle->thoughts_max, puzzle->modulus,
                   split == RT_EVAL ? "held out" : "left for training");
}

static void add_line(const rt_puzzle *puzzle, const rt_puzzle_lines *lines, int i, uint64_t cursor,
                     rt_buf *out)
{
    uint64_t stream = puzzle->stream + RT_STREAM_LETTERS;
    uint64_t place = (cursor * RT_PUZZLE_THOUGHTS_MAX + (uint64_t)i) * RT_FORK_FILLER_MAX;
    rt_buf_addf(out, "%s", lines->text[i]);
    for (int k = 0; k < puzzle->filler; k++) {
        char letter = (char)('a' + rt_below(puzzle->seed, stream, place + (uint64_t)k, 26));
        rt_buf_addf(out, k ? "%c" : ";%c", letter);
    }
}

static const char *solution(const rt_puzzle *puzzle, const rt_puzzle_lines *lines, uint64_t cursor,
                            const char *delimiter, rt_arena *arena)
{
    rt_buf out = {0};
    for (int i = 0; i < lines->count; i++) {
        add_line(puzzle, lines, i, cursor, &out);
        if (i == lines->count - 1) {
            rt_buf_addf(&out, "%s%s}", BOX, lines->answer);
        }
        rt_buf_addf(&out, "%s", delimiter);
    }
    return rt_arena_keep(&out, arena);
}

static void teach(const rt_puzzle *puzzle, const char *text, rt_slips *slips,
                  rt_puzzle_lines *lines)
{
    bool taught = puzzle->kind->teach(text, slips, lines);
    RT_ASSERT(taught && lines->count > 0); /* a drawn problem has a solution */
}

int rt_puzzle_get(const rt_puzzle *puzzle, int split, uint64_t index, const char *delimiter,
                  rt_arena *arena, rt_problem *problem, rt_error *err)
{
    rt_buf text = {0}, gold = {0};
    int code = draw(puzzle, split, index, &text, err);
    if (code) {
        rt_buf_free(&text);
        return code;
    }
    problem->problem = rt_arena_keep(&text, arena);
    rt_slips none = {0};
    rt_puzzle_lines lines;
    teach(puzzle, problem->problem, &none, &lines);
    problem->solution = solution(puzzle, &lines, 2 * index + (uint64_t)split, delimiter, arena);
    rt_buf_addf(&gold, "%s", puzzle->kind->open ? problem->problem : lines.answer);
    problem->gold = rt_arena_keep(&gold, arena);
    return RT_OK;
}

/* ---- the careless teacher ---------------------------------------------------------------- */

bool rt_slips_now(rt_slips *slips, int thought, const char *fact, uint32_t *which)
{
    const rt_puzzle *puzzle = slips->puzzle;
    if (!puzzle || (slips->only >= 0 && slips->only != thought)) {
        return false;
    }
    uint64_t stream = puzzle->stream + RT_STREAM_TEACHER;
    uint64_t place = 2 * (slips->cursor * RT_PUZZLE_THOUGHTS_MAX + (uint64_t)thought);
    uint64_t facts = puzzle->stream + RT_STREAM_FACTS, known = rt_hash64(fact, strlen(fact), 0);
    double share = puzzle->slip;
    *which = rt_below(puzzle->seed, stream, place + 1, 1 << 16);
    if (puzzle->hard > 0) {
        bool hard = rt_uniform(puzzle->seed, facts, known) < puzzle->hard;
        share = hard ? puzzle->slip / puzzle->hard : 0;
        *which = rt_below(puzzle->seed, facts + (1ull << 32), known, 1 << 16);
    }
    if (slips->only < 0 && !(rt_uniform(puzzle->seed, stream, place) < share)) {
        return false;
    }
    slips->first = slips->first ? slips->first : thought + 1;
    return true;
}

int64_t rt_wrong_number(int64_t right, uint32_t which)
{
    int64_t by = 1 + which / 2 % 3;
    return which % 2 && right >= by ? right - by : right + by;
}

const char *rt_puzzle_taught(const rt_puzzle *puzzle, const char *text, uint64_t cursor,
                             const char *delimiter, rt_arena *arena)
{
    rt_slips slips = {puzzle, cursor, -1, 0};
    rt_puzzle_lines lines;
    teach(puzzle, text, &slips, &lines);
    return solution(puzzle, &lines, cursor, delimiter, arena);
}

void rt_puzzle_localize(const rt_puzzle *puzzle, const rt_config *config, const char *text,
                        uint64_t cursor, rt_arena *arena, rt_example *example)
{
    rt_slips slips = {puzzle, cursor, -1, 0};
    rt_puzzle_lines lines;
    teach(puzzle, text, &slips, &lines);
    /* A solution without a mistake gets one at a drawn place; from there it is right again. */
    if (!slips.first) {
        slips.only = (int)rt_below(puzzle->seed, puzzle->stream + RT_STREAM_LOCALIZE, cursor,
                                   (uint32_t)lines.count);
        teach(puzzle, text, &slips, &lines);
        RT_ASSERT(slips.first);
    }
    rt_buf prompt = {0}, completion = {0}, line = {0};
    rt_buf_addf(&prompt, "Q:%s\n", text);
    example->spans_count = 0;
    for (int i = 0; i < lines.count; i++) {
        rt_buf_clear(&line);
        rt_buf_addf(&line, "%d:", i + 1);
        add_line(puzzle, &lines, i, cursor, &line);
        rt_buf_addf(&prompt, "%s\n", line.data);
        if (i < slips.first) {
            rt_buf_addf(&completion, "%s", line.data);
            int at = (int)completion.bytes;
            example->spans[example->spans_count++] = (struct rt_span){at, at + 1,
                                                                      config->sft.verdict_weight};
            rt_buf_addf(&completion, "%c\n", i == slips.first - 1 ? 'n' : 'y');
        }
    }
    rt_buf_free(&line);
    rt_buf_addf(&prompt, "L:");
    rt_buf_addf(&completion, "%s%d}", BOX, slips.first);
    example->prompt = rt_arena_keep(&prompt, arena);
    example->completion = rt_arena_keep(&completion, arena);
}

/* ---- reading text back ------------------------------------------------------------------- */

bool rt_box_holds(const rt_puzzle_said *said, int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    return said->boxed && !strcmp(said->box, text);
}

bool rt_read_sum(const char *text, int *a, int *b, int *c)
{
    return rt_read_number(&text, a) && *text++ == '+' && rt_read_number(&text, b) &&
           *text++ == '=' && rt_read_number(&text, c) && !*text;
}

int rt_read_list(const char **text, int *numbers, int most)
{
    int count = 0;
    do {
        *text += count > 0; /* the comma */
        if (count == most || !rt_read_number(text, &numbers[count++])) {
            return -1;
        }
    } while (**text == ',');
    return count;
}

/* Copies what is left of text up to end, without space around it; false: too long. */
static bool keep(const char *text, const char *end, char *out, size_t out_bytes)
{
    while (text < end && strchr(SPACE, *text)) {
        text++;
    }
    while (end > text && strchr(SPACE, end[-1])) {
        end--;
    }
    size_t bytes = (size_t)(end - text);
    if (bytes >= out_bytes) {
        return false;
    }
    memcpy(out, text, bytes);
    out[bytes] = '\0';
    return true;
}

/* "line;letters\boxed{answer}</thought>", of which all but the line may be missing. */
static bool take_apart(const char *thought, rt_puzzle_said *said)
{
    *said = (rt_puzzle_said){0};
    const char *end = strstr(thought, "</thought>");
    if (end && end[10 + strspn(end + 10, SPACE)]) {
        return false;
    }
    end = end ? end : thought + strlen(thought);
    const char *box = memmem(thought, (size_t)(end - thought), BOX, sizeof BOX - 1);
    if (box) {
        const char *content = box + sizeof BOX - 1;
        const char *close = memchr(content, '}', (size_t)(end - content));
        char rest[1];
        if (!close || !keep(content, close, said->box, sizeof said->box) ||
            !keep(close + 1, end, rest, sizeof rest)) {
            return false;
        }
        said->boxed = true;
        end = box;
    }
    const char *letters = memchr(thought, ';', (size_t)(end - thought));
    for (const char *c = letters ? letters + 1 : end; c < end; c++) {
        if (!islower((unsigned char)*c) && !strchr(SPACE, *c)) {
            return false;
        }
    }
    return keep(thought, letters ? letters : end, said->line, sizeof said->line);
}

int rt_puzzle_first_wrong(const rt_puzzle_kind *kind, const char *problem,
                          const char *const *thoughts, int count)
{
    char text[RT_PUZZLE_TEXT_MAX];
    problem += strspn(problem, SPACE);
    problem += strncmp(problem, "Q:", 2) ? 0 : 2;
    if (!keep(problem, problem + strlen(problem), text, sizeof text)) {
        return -1;
    }
    /* What stands behind the last delimiter is often nothing. */
    while (count > 0 && !thoughts[count - 1][strspn(thoughts[count - 1], SPACE)]) {
        count--;
    }
    rt_puzzle_said said[RT_PUZZLE_THOUGHTS_MAX] = {0};
    int whole = 0;
    while (whole < RT_MIN(count, RT_PUZZLE_THOUGHTS_MAX) &&
           take_apart(thoughts[whole], &said[whole])) {
        whole++;
    }
    int first = kind->first_wrong(text, said, whole);
    return first == 0 && whole < count ? whole + 1 : first;
}
