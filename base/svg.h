/*
 * svg: line plots as SVG text, side by side: error bars, linear or logarithmic axes, a legend
 * below each plot. Everything is borrowed for the call. Plain functions; no state, any thread.
 */
#ifndef RT_SVG_H
#define RT_SVG_H

#include "base/base.h"

typedef struct rt_svg_series {
    const char *name;
    int count; /* points are marked where there are few */
    const double *x, *y;
    const double *low, *high; /* ends of the error bars; both NULL: none */
    bool dashed;              /* for what is expected rather than measured */
} rt_svg_series;

typedef struct rt_svg_plot {
    const char *title, *x_label, *y_label;
    bool x_log, y_log;
    const rt_svg_series *series;
    int series_count;
} rt_svg_plot;

/*
 * Appends one SVG document with the plots in a row. RT_ERR_INPUT where a plot has no point, a
 * value is not finite, or a logarithmic axis meets a value that is not positive. Error bars that
 * reach below a logarithmic axis are cut at its lower end.
 */
int rt_svg_write(rt_buf *out, const rt_svg_plot *plots, int count, rt_error *err);
/* Its size in pixels. */
void rt_svg_size(const rt_svg_plot *plots, int count, double *width, double *height);
/* Adds text for SVG or HTML: what means something there is written out. */
void rt_svg_text(rt_buf *out, const char *text);

#endif
