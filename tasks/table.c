/*
 * table: cells of a small table, looked up and added one after another. Columns have letters, rows
 * have digits: "3,7/5,1:B2+A1". A thought names the cell and adds it to the sum so far
 * ("B2:0+1=1"). The teacher errs on sums.
 */
#include "tasks/puzzle.h"

#include <string.h>

enum { SIDE_MAX = 9, SIDE_USUAL = 3, CELLS_MAX = RT_PUZZLE_THOUGHTS_MAX };

typedef struct table {
    int rows, columns, cells[SIDE_MAX][SIDE_MAX];
    int count, column[CELLS_MAX], row[CELLS_MAX]; /* the cells to add, from 0 */
} table;

static bool draw(const rt_puzzle *puzzle, int thoughts, rt_dice *dice, rt_buf *text)
{
    int side = puzzle->size ? puzzle->size : SIDE_USUAL;
    for (int i = 0; i < side * side; i++) {
        rt_buf_addf(text, "%s%d",
                    i == 0     ? ""
                    : i % side ? ","
                               : "/",
                    rt_dice_below(dice, puzzle->modulus));
    }
    for (int i = 0; i < thoughts; i++) {
        int column = rt_dice_below(dice, side), row = rt_dice_below(dice, side);
        rt_buf_addf(text, "%c%c%d", i ? '+' : ':', 'A' + column, row + 1);
    }
    return true;
}

static bool read_cell(const char **text, int *column, int *row)
{
    *column = **text - 'A';
    if (*column < 0 || *column >= SIDE_MAX) {
        return false;
    }
    *row = *++*text - '1';
    if (*row < 0 || *row >= SIDE_MAX) {
        return false;
    }
    ++*text;
    return true;
}

static bool parse(const char *text, table *out)
{
    *out = (table){0};
    do {
        text += out->rows > 0; /* the slash */
        int columns = out->rows < SIDE_MAX ? rt_read_list(&text, out->cells[out->rows], SIDE_MAX)
                                           : -1;
        if (columns < 1 || (out->rows && columns != out->columns)) {
            return false;
        }
        out->columns = columns;
        out->rows++;
    } while (*text == '/');
    if (*text != ':') {
        return false;
    }
    do {
        int i = out->count++;
        text++; /* the colon or the plus */
        if (i == CELLS_MAX || !read_cell(&text, &out->column[i], &out->row[i]) ||
            out->column[i] >= out->columns || out->row[i] >= out->rows) {
            return false;
        }
    } while (*text == '+');
    return !*text;
}

static bool teach(const char *text, rt_slips *slips, rt_puzzle_lines *lines)
{
    table read;
    if (!parse(text, &read)) {
        return false;
    }
    int sum = 0;
    for (int i = 0; i < read.count; i++) {
        int cell = read.cells[read.row[i]][read.column[i]], next = sum + cell;
        char fact[32];
        uint32_t which;
        snprintf(fact, sizeof fact, "%d+%d", sum, cell);
        if (rt_slips_now(slips, i, fact, &which)) {
            next = (int)rt_wrong_number(next, which);
        }
        snprintf(lines->text[i], RT_PUZZLE_LINE_MAX, "%c%d:%s=%d", 'A' + read.column[i],
                 read.row[i] + 1, fact, next);
        sum = next;
    }
    lines->count = read.count;
    snprintf(lines->answer, sizeof lines->answer, "%d", sum);
    return true;
}

static int first_wrong(const char *text, const rt_puzzle_said *said, int count)
{
    table read;
    if (!parse(text, &read)) {
        return -1;
    }
    int sum = 0;
    for (int i = 0; i < count; i++) {
        const char *line = said[i].line;
        int column, row, before, cell, after;
        if (i >= read.count || !read_cell(&line, &column, &row) || column != read.column[i] ||
            row != read.row[i] || *line++ != ':' || !rt_read_sum(line, &before, &cell, &after) ||
            before != sum || cell != read.cells[row][column] || after != sum + cell) {
            return i + 1;
        }
        sum = after;
        if (said[i].boxed && (i < read.count - 1 || !rt_box_holds(&said[i], sum))) {
            return i + 1;
        }
    }
    return 0;
}

const rt_puzzle_kind rt_puzzle_table = {
    .name = "table",
    .grader = "exact",
    .thoughts_most = CELLS_MAX,
    .modulus_most = 1000,
    .size_most = SIDE_MAX,
    .draw = draw,
    .teach = teach,
    .first_wrong = first_wrong,
};
