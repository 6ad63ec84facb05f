/* svg: see svg.h. Coordinates are rounded to a tenth of a pixel: equal input gives equal text. */
#include "base/svg.h"

#include <math.h>

#define PANEL_WIDTH 420.0
#define PLOT_LEFT 66.0
#define PLOT_TOP 34.0
#define PLOT_WIDTH 338.0
#define PLOT_HEIGHT 240.0
#define LEGEND_TOP (PLOT_TOP + PLOT_HEIGHT + 54.0)
#define LEGEND_ROW 17.0
#define LEGEND_COLUMNS 2
#define TICKS_MAX 32
#define MARKED_MAX 64 /* points of a line that are marked each */

typedef struct axis {
    double low, high; /* in the axis' own scale: logarithms where it is logarithmic */
    bool log;
    double pixel_low, pixel_high;
} axis;

/* Told apart by people with any colour vision (Okabe and Ito). */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00",
                                      "#56b4e9", "#000000"};

static double scaled(const axis *a, double value)
{
    return a->log ? log10(value) : value;
}

static double pixel(const axis *a, double value)
{
    double share = (fmax(scaled(a, value), a->low) - a->low) / (a->high - a->low);
    return a->pixel_low + share * (a->pixel_high - a->pixel_low);
}

void rt_svg_text(rt_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            rt_buf_addf(out, "&amp;");
        else if (*text == '<')
            rt_buf_addf(out, "&lt;");
        else if (*text == '>')
            rt_buf_addf(out, "&gt;");
        else if ((unsigned char)*text < 0x20) /* not in XML */
            rt_buf_addf(out, " ");
        else
            rt_buf_add(out, text, 1);
    }
}

static void add_label(rt_buf *out, double x, double y, const char *more, const char *text)
{
    rt_buf_addf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, more);
    rt_svg_text(out, text);
    rt_buf_addf(out, "</text>\n");
}

static int widen(axis *a, double value, const rt_svg_plot *plot, rt_error *err)
{
    if (!isfinite(value) || (a->log && value <= 0))
        return rt_fail(err, RT_ERR_INPUT,
                       "plot \"%s\" cannot show %g on %s axis: leave that point out or change "
                       "the axis", plot->title, value, a->log ? "a logarithmic" : "a linear");
    a->low = fmin(a->low, scaled(a, value));
    a->high = fmax(a->high, scaled(a, value));
    return RT_OK;
}

static int find_range(const rt_svg_plot *plot, axis *x, axis *y, rt_error *err)
{
    *x = (axis){.low = INFINITY, .high = -INFINITY, .log = plot->x_log};
    *y = (axis){.low = INFINITY, .high = -INFINITY, .log = plot->y_log};
    for (int s = 0; s < plot->series_count; s++) {
        const rt_svg_series *line = &plot->series[s];
        for (int i = 0; i < line->count; i++) {
            int code = widen(x, line->x[i], plot, err);
            if (!code)
                code = widen(y, line->y[i], plot, err);
            if (!code && line->low && (!y->log || line->low[i] > 0))
                code = widen(y, line->low[i], plot, err);
            if (!code && line->high)
                code = widen(y, line->high[i], plot, err);
            if (code)
                return code;
        }
    }
    if (!(x->low <= x->high))
        return rt_fail(err, RT_ERR_INPUT, "plot \"%s\" has no point", plot->title);
    return RT_OK;
}

static void pad(axis *a)
{
    double margin = a->high > a->low ? 0.05 * (a->high - a->low) : 0.5;
    a->low -= margin;
    a->high += margin;
}

/* Round values inside the axis; returns how many. */
static int find_ticks(const axis *a, double ticks[TICKS_MAX])
{
    int count = 0;
    if (a->log) {
        static const double steps[] = {1, 2, 5};
        bool fine = a->high - a->low < 2;
        for (int e = (int)floor(a->low); e <= (int)ceil(a->high); e++)
            for (int s = 0; s < (fine ? 3 : 1); s++) {
                double value = steps[s] * pow(10, e);
                if (log10(value) >= a->low && log10(value) <= a->high && count < TICKS_MAX)
                    ticks[count++] = value;
            }
        return count;
    }
    double rough = (a->high - a->low) / 6, step = pow(10, floor(log10(rough)));
    step *= rough > 5 * step ? 10 : rough > 2 * step ? 5 : rough > step ? 2 : 1;
    for (double i = ceil(a->low / step); i * step <= a->high && count < TICKS_MAX; i++)
        ticks[count++] = i * step;
    return count;
}

static void format_tick(const axis *a, double value, char text[32])
{
    if (a->log && (value >= 1e4 || value < 1e-3))
        snprintf(text, 32, "1e%d", (int)lround(log10(value)));
    else
        snprintf(text, 32, "%.4g", fabs(value) < 1e-12 ? 0 : value);
}

static void add_axes(rt_buf *out, const rt_svg_plot *plot, const axis *x, const axis *y)
{
    double ticks[TICKS_MAX];
    char text[32];
    rt_buf_addf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" "
                "stroke=\"#444\"/>\n", x->pixel_low, y->pixel_high, PLOT_WIDTH, PLOT_HEIGHT);
    int count = find_ticks(x, ticks);
    for (int i = 0; i < count; i++) {
        double at = pixel(x, ticks[i]);
        rt_buf_addf(out, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#ddd\"/>\n", at, y->pixel_low,
                    y->pixel_high);
        format_tick(x, ticks[i], text);
        add_label(out, at, y->pixel_low + 16, "text-anchor=\"middle\"", text);
    }
    count = find_ticks(y, ticks);
    for (int i = 0; i < count; i++) {
        double at = pixel(y, ticks[i]);
        rt_buf_addf(out, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#ddd\"/>\n", x->pixel_low, at,
                    x->pixel_high);
        format_tick(y, ticks[i], text);
        add_label(out, x->pixel_low - 6, at + 4, "text-anchor=\"end\"", text);
    }
    double middle_x = (x->pixel_low + x->pixel_high) / 2;
    double middle_y = (y->pixel_low + y->pixel_high) / 2, left = x->pixel_low - 50;
    add_label(out, middle_x, PLOT_TOP - 12, "text-anchor=\"middle\" font-weight=\"bold\"",
              plot->title);
    add_label(out, middle_x, y->pixel_low + 34, "text-anchor=\"middle\"", plot->x_label);
    char turn[96];
    snprintf(turn, sizeof turn, "text-anchor=\"middle\" transform=\"rotate(-90 %.1f %.1f)\"", left,
             middle_y);
    add_label(out, left, middle_y, turn, plot->y_label);
}

static void add_bars(rt_buf *out, const rt_svg_series *line, const axis *x, const axis *y,
                     const char *colour)
{
    for (int i = 0; i < line->count; i++) {
        double at = pixel(x, line->x[i]);
        double low = y->log && line->low[i] <= 0 ? y->pixel_low : pixel(y, line->low[i]);
        double high = pixel(y, line->high[i]);
        rt_buf_addf(out, "<path d=\"M%.1f %.1fH%.1fM%.1f %.1fV%.1fM%.1f %.1fH%.1f\" "
                    "stroke=\"%s\"/>\n", at - 3, low, at + 3, at, low, high, at - 3, high, at + 3,
                    colour);
    }
}

static void add_series(rt_buf *out, const rt_svg_series *line, int order, const axis *x,
                       const axis *y)
{
    const char *colour = colours[order % (int)RT_COUNT(colours)];
    const char *dash = line->dashed ? " stroke-dasharray=\"5 4\"" : "";
    for (int i = 0; i < line->count; i++)
        rt_buf_addf(out, "%s%.1f %.1f", i ? "L" : "<path d=\"M", pixel(x, line->x[i]),
                    pixel(y, line->y[i]));
    if (line->count)
        rt_buf_addf(out, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\"%s/>\n", colour, dash);
    for (int i = 0; i < line->count && line->count <= MARKED_MAX && !line->dashed; i++)
        rt_buf_addf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"%s\"/>\n",
                    pixel(x, line->x[i]), pixel(y, line->y[i]), colour);
    if (line->low && line->high)
        add_bars(out, line, x, y, colour);
    double left = x->pixel_low + order % LEGEND_COLUMNS * (PLOT_WIDTH / LEGEND_COLUMNS);
    double top = LEGEND_TOP + order / LEGEND_COLUMNS * LEGEND_ROW;
    rt_buf_addf(out, "<path d=\"M%.1f %.1fh20\" stroke=\"%s\" stroke-width=\"1.6\"%s/>\n", left,
                top, colour, dash);
    add_label(out, left + 26, top + 4, "", line->name);
}

void rt_svg_size(const rt_svg_plot *plots, int count, double *width, double *height)
{
    int rows = 0;
    for (int p = 0; p < count; p++)
        rows = RT_MAX(rows, (plots[p].series_count + LEGEND_COLUMNS - 1) / LEGEND_COLUMNS);
    *width = PANEL_WIDTH * count;
    *height = LEGEND_TOP + LEGEND_ROW * rows;
}

int rt_svg_write(rt_buf *out, const rt_svg_plot *plots, int count, rt_error *err)
{
    for (int p = 0; p < count; p++) {
        axis x, y;
        int code = find_range(&plots[p], &x, &y, err);
        if (code)
            return code;
    }
    double width, height;
    rt_svg_size(plots, count, &width, &height);
    rt_buf_addf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                "viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" font-size=\"11\">\n"
                "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", width, height, width,
                height);
    for (int p = 0; p < count; p++) {
        axis x, y;
        find_range(&plots[p], &x, &y, NULL);
        pad(&x);
        pad(&y);
        x.pixel_low = PANEL_WIDTH * p + PLOT_LEFT;
        x.pixel_high = x.pixel_low + PLOT_WIDTH;
        y.pixel_low = PLOT_TOP + PLOT_HEIGHT;
        y.pixel_high = PLOT_TOP;
        add_axes(out, &plots[p], &x, &y);
        for (int s = 0; s < plots[p].series_count; s++)
            add_series(out, &plots[p].series[s], s, &x, &y);
    }
    rt_buf_addf(out, "</svg>\n");
    return RT_OK;
}
