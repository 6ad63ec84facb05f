/*
 * path: length of the shortest path in a small graph. "AD:AB3,BC1,CD2,AC5" asks from A to D, edges
 * go both ways; with modulus 2 every edge has length 1 and none is written. A thought settles the
 * next nearest node: the edge to it, and the sum up to there ("AB:0+3=3"). The teacher errs on
 * sums.
 */
#include "tasks/puzzle.h"

#include <ctype.h>
#include <string.h>

/* A tree and half as many edges more as it has nodes: 23 of at most 6 letters. */
enum { NODES_MAX = 16, LENGTH_MAX = 999, FAR = 1 << 24 };

typedef struct graph {
    int from, to;
    int length[NODES_MAX][NODES_MAX]; /* 0: no edge */
} graph;

static const char *refuses(const rt_puzzle *puzzle)
{
    return puzzle->size && puzzle->size <= puzzle->thoughts_max
               ? "a shortest path needs a size above thoughts_max, one node a thought and its start"
               : NULL;
}

/* ---- walking ----------------------------------------------------------------------------- */

/* The next node to settle, by distance, then by letter; *edge_from: where it is reached from. */
static int nearest(const graph *g, const int *distance, int *edge_from)
{
    int found = -1, best = FAR;
    for (int v = 0; v < NODES_MAX; v++) {
        for (int u = 0; distance[v] == FAR && u < NODES_MAX; u++) {
            if (g->length[u][v] && distance[u] < FAR && distance[u] + g->length[u][v] < best) {
                best = distance[u] + g->length[u][v];
                found = v;
                *edge_from = u;
            }
        }
    }
    return found;
}

static void start(const graph *g, int *distance)
{
    for (int v = 0; v < NODES_MAX; v++) {
        distance[v] = v == g->from ? 0 : FAR;
    }
}

static void walk(const graph *g, rt_slips *slips, int *distance, rt_puzzle_lines *lines)
{
    int u = 0;
    start(g, distance);
    lines->count = 0;
    for (int v; distance[g->to] == FAR && (v = nearest(g, distance, &u)) >= 0;) {
        char fact[32];
        uint32_t which;
        snprintf(fact, sizeof fact, "%d+%d", distance[u], g->length[u][v]);
        distance[v] = distance[u] + g->length[u][v];
        if (rt_slips_now(slips, lines->count, fact, &which)) {
            distance[v] = (int)rt_wrong_number(distance[v], which);
        }
        snprintf(lines->text[lines->count++], RT_PUZZLE_LINE_MAX, "%c%c:%s=%d", 'A' + u, 'A' + v,
                 fact, distance[v]);
    }
}

/* ---- text -------------------------------------------------------------------------------- */

static void join(graph *g, int u, int v, int length)
{
    g->length[u][v] = g->length[v][u] = length;
}

static void print(const graph *g, bool lengths, rt_dice *dice, rt_buf *text)
{
    int from[NODES_MAX * NODES_MAX], to[NODES_MAX * NODES_MAX], count = 0;
    for (int u = 0; u < NODES_MAX; u++) {
        for (int v = u + 1; v < NODES_MAX; v++) {
            if (g->length[u][v]) {
                from[count] = u;
                to[count++] = v;
            }
        }
    }
    rt_buf_addf(text, "%c%c:", 'A' + g->from, 'A' + g->to);
    for (int left = count; left > 0; left--) {
        int at = rt_dice_below(dice, left), u = from[at], v = to[at];
        rt_buf_addf(text, "%s%c%c", left < count ? "," : "", 'A' + u, 'A' + v);
        if (lengths) {
            rt_buf_addf(text, "%d", g->length[u][v]);
        }
        from[at] = from[left - 1];
        to[at] = to[left - 1];
    }
}

/* A random tree keeps the graph together; the goal is the node that is settled last. */
static bool draw(const rt_puzzle *puzzle, int thoughts, rt_dice *dice, rt_buf *text)
{
    int nodes = puzzle->size ? puzzle->size : RT_MIN(thoughts + 2, NODES_MAX);
    int order[NODES_MAX] = {0}, distance[NODES_MAX];
    graph g = {0};
    for (int i = 0; i < nodes; i++) {
        int at = rt_dice_below(dice, i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    for (int i = 1; i < nodes; i++) {
        int other = rt_dice_below(dice, i);
        join(&g, order[i], order[other], 1 + rt_dice_below(dice, puzzle->modulus - 1));
    }
    for (int i = 0; i < nodes / 2; i++) {
        int u = rt_dice_below(dice, nodes), v = rt_dice_below(dice, nodes);
        int length = 1 + rt_dice_below(dice, puzzle->modulus - 1);
        if (u != v && !g.length[u][v]) {
            join(&g, u, v, length);
        }
    }
    g.from = order[rt_dice_below(dice, nodes)];
    start(&g, distance);
    for (int i = 0, u = 0; i < thoughts; i++) {
        g.to = nearest(&g, distance, &u);
        distance[g.to] = distance[u] + g.length[u][g.to];
    }
    print(&g, puzzle->modulus > 2, dice, text);
    return true;
}

static bool read_nodes(const char **text, int *u, int *v)
{
    *u = **text - 'A';
    if (*u < 0 || *u >= NODES_MAX) {
        return false;
    }
    *v = *++*text - 'A';
    if (*v < 0 || *v >= NODES_MAX || *u == *v) {
        return false;
    }
    ++*text;
    return true;
}

static bool parse(const char *text, graph *g)
{
    *g = (graph){0};
    if (!read_nodes(&text, &g->from, &g->to) || *text != ':') {
        return false;
    }
    do {
        int u, v, length = 1;
        text++; /* the colon or the comma */
        if (!read_nodes(&text, &u, &v) || g->length[u][v] ||
            (isdigit((unsigned char)*text) && !rt_read_number(&text, &length)) || length < 1 ||
            length > LENGTH_MAX) {
            return false;
        }
        join(g, u, v, length);
    } while (*text == ',');
    return !*text;
}

/* ---- teacher and oracle ------------------------------------------------------------------ */

static bool teach(const char *text, rt_slips *slips, rt_puzzle_lines *lines)
{
    graph g;
    int distance[NODES_MAX];
    if (!parse(text, &g)) {
        return false;
    }
    walk(&g, slips, distance, lines);
    snprintf(lines->answer, sizeof lines->answer, "%d", distance[g.to]);
    return distance[g.to] < FAR;
}

static void shortest(const graph *g, int *distance)
{
    int u;
    start(g, distance);
    for (int v; (v = nearest(g, distance, &u)) >= 0;) {
        distance[v] = distance[u] + g->length[u][v];
    }
}

/* Right is any edge from a node that is settled to one that is not, if it is the last of a shortest
 * path there. Nodes may come in another order than the teacher's, or not at all. */
static int first_wrong(const char *text, const rt_puzzle_said *said, int count)
{
    graph g;
    int right[NODES_MAX], settled[NODES_MAX];
    if (!parse(text, &g)) {
        return -1;
    }
    shortest(&g, right);
    start(&g, settled);
    for (int i = 0; i < count; i++) {
        const char *line = said[i].line;
        int u, v, before, length, after;
        if (settled[g.to] < FAR || !read_nodes(&line, &u, &v) || *line++ != ':' ||
            !rt_read_sum(line, &before, &length, &after) || settled[u] == FAR || settled[v] < FAR ||
            before != settled[u] || !g.length[u][v] || length != g.length[u][v] ||
            after != before + length || after != right[v] ||
            (said[i].boxed && (v != g.to || !rt_box_holds(&said[i], after)))) {
            return i + 1;
        }
        settled[v] = after;
    }
    return 0;
}

const rt_puzzle_kind rt_puzzle_path = {
    .name = "path",
    .grader = "exact",
    .thoughts_most = NODES_MAX - 1,
    .modulus_most = LENGTH_MAX + 1,
    .size_most = NODES_MAX,
    .refuses = refuses,
    .draw = draw,
    .teach = teach,
    .first_wrong = first_wrong,
};
