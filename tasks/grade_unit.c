/* grade_unit: reads the text of a unit. */
#include "tasks/grade_algebra.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *names; /* each between spaces; the plural with s is known too */
    int64_t over, under;
    signed char dimensions[RT_DIMENSIONS]; /* length, mass, time, money */
} units[] = {
    {" m meter metre ", 1, 1, {1}}, {" mm millimeter millimetre ", 1, 1000, {1}},
    {" cm centimeter centimetre ", 1, 100, {1}}, {" dm decimeter decimetre ", 1, 10, {1}},
    {" km kilometer kilometre ", 1000, 1, {1}}, {" in inch inches ", 254, 10000, {1}},
    {" ft foot feet ", 3048, 10000, {1}}, {" yd yard ", 9144, 10000, {1}},
    {" mi mile ", 1609344, 1000, {1}}, {" g gram ", 1, 1, {0, 1}}, {" mg milligram ", 1, 1000, {0, 1}},
    {" kg kilogram ", 1000, 1, {0, 1}}, {" lb pound ", 45359237, 100000, {0, 1}},
    {" oz ounce ", 28349523125, 1000000000, {0, 1}}, {" s sec second ", 1, 1, {0, 0, 1}},
    {" ms millisecond ", 1, 1000, {0, 0, 1}}, {" min minute ", 60, 1, {0, 0, 1}},
    {" h hr hour ", 3600, 1, {0, 0, 1}}, {" day ", 86400, 1, {0, 0, 1}},
    {" week ", 604800, 1, {0, 0, 1}}, {" l liter litre ", 1, 1000, {3}},
    {" ml milliliter millilitre ", 1, 1000000, {3}}, {" dollar ", 1, 1, {0, 0, 0, 1}},
    {" cent ", 1, 100, {0, 0, 0, 1}}, {" mph ", 1609344, 3600000, {1, 0, -1}},
    {" kph kmh ", 1000, 3600, {1, 0, -1}},
};

static bool listed(const char *names, const char *word)
{
    size_t bytes = strlen(word);
    for (const char *at = names; (at = strcasestr(at, word)); at++) {
        if (at[-1] == ' ' && at[bytes] == ' ') {
            return true;
        }
    }
    return false;
}

static bool add(rt_unit *unit, char *word, int power)
{
    size_t bytes = strlen(word);
    for (int plural = 0; plural < 2; plural++) {
        if (plural && (bytes < 4 || word[bytes - 1] != 's')) {
            return false;
        }
        word[bytes - (plural ? 1 : 0)] = '\0';
        for (size_t i = 0; i < RT_COUNT(units); i++) {
            if (!listed(units[i].names, word)) {
                continue;
            }
            if (unit->count == RT_UNIT_PARTS_MAX) {
                return false;
            }
            unit->parts[unit->count].over = units[i].over;
            unit->parts[unit->count].under = units[i].under;
            unit->parts[unit->count++].power = power;
            for (int k = 0; k < RT_DIMENSIONS; k++) {
                unit->dimensions[k] += units[i].dimensions[k] * power;
            }
            return true;
        }
    }
    return false;
}

/* ^2, ^{-1} or nothing. */
static bool take_power(rt_text *rest, int *power)
{
    *power = 1;
    if (!rest->bytes || *rest->at != '^') {
        return true;
    }
    *rest = rt_text_skip(*rest, 1);
    bool braced = rest->bytes && *rest->at == '{', negative;
    *rest = rt_text_skip(*rest, braced);
    negative = rest->bytes && *rest->at == '-';
    *rest = rt_text_skip(*rest, negative);
    if (!rest->bytes || *rest->at < '1' || *rest->at > '4') {
        return false;
    }
    *power = negative ? '0' - *rest->at : *rest->at - '0';
    *rest = rt_text_skip(*rest, 1);
    if (braced && (!rest->bytes || *rest->at != '}')) {
        return false;
    }
    *rest = rt_text_skip(*rest, braced);
    return true;
}

bool rt_unit_read(rt_text text, rt_unit *unit)
{
    int times = 1, sign = 1, power;
    *unit = (rt_unit){0};
    for (text = rt_text_trim(text); text.bytes; text = rt_text_trim(text)) {
        char word[16];
        size_t bytes = 0;
        if (strchr("/.*", *text.at)) {
            sign = *text.at == '/' ? -1 : sign;
            text = rt_text_skip(text, 1);
            continue;
        }
        while (bytes < text.bytes && bytes + 1 < sizeof word && isalpha((unsigned char)text.at[bytes])) {
            word[bytes] = text.at[bytes];
            bytes++;
        }
        word[bytes] = '\0';
        text = rt_text_skip(text, bytes);
        if (!bytes) {
            return false;
        }
        if (!strcasecmp(word, "per")) {
            sign = -1;
        } else if (!strcasecmp(word, "square") || !strcasecmp(word, "sq")) {
            times = 2;
        } else if (!strcasecmp(word, "cubic") || !strcasecmp(word, "cu")) {
            times = 3;
        } else if (!take_power(&text, &power) || !add(unit, word, power * times * sign)) {
            return false;
        } else {
            times = 1;
        }
    }
    return unit->count > 0;
}

bool rt_unit_same_kind(const rt_unit *a, const rt_unit *b)
{
    return !memcmp(a->dimensions, b->dimensions, sizeof a->dimensions);
}

const rt_value *rt_unit_value(rt_algebra *algebra, const rt_unit *unit)
{
    const rt_value *value = rt_value_integer(algebra, 1);
    for (int i = 0; i < unit->count; i++) {
        const rt_value *part = rt_value_integer(algebra, unit->parts[i].over);
        part = rt_value_divide(algebra, part, rt_value_integer(algebra, unit->parts[i].under));
        part = rt_value_power(algebra, part, rt_value_integer(algebra, unit->parts[i].power));
        value = rt_value_multiply(algebra, value, part);
    }
    return value;
}
