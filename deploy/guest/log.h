/* What init says for itself: lines on the console that begin with "bulkhead: ". */
#ifndef LOG_H
#define LOG_H

/* Where lines go instead of standard error; NULL: back to it. `line` ends with a newline. */
void say_to(void (*sink)(const char *line));

__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* Say "what: reason of errno"; always -1, for `return failed(…)`. */
__attribute__((format(printf, 1, 2))) int failed(const char *format, ...);

#endif
