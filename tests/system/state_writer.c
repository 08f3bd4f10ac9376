/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program that does nothing but keep a state file, to be killed and disturbed at each step of it
 * by test_state.py:
 *
 *     state_writer FILE
 *
 * Says `loaded NUMBER` (0 where there is no file) or `refused MESSAGE`, then `ready`. Each line of
 * its input, `NUMBER SIZE`, has an object with that number and a text of that size written; the
 * answer is `safe NUMBER` or `fault ERRNO MESSAGE`. Ends at the end of its input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/state.h"

static struct loop *loop;

static void done(void *argument, const struct error *fault)
{
	if (fault == NULL)
		printf("safe %d\n", *(const int *)argument);
	else
		printf("fault %d %s\n", fault->errnum, fault->message);
	fflush(stdout);
	loop_stop(loop);
}

static int load(const char *path, struct error *err)
{
	json_t *content;
	int result = state_load(path, &content, err);

	if (result != 0)
		return result;
	printf("loaded %d\n", (int)json_integer_value(json_object_get(content, "number")));
	json_decref(content);
	return 0;
}

static json_t *make_content(int number, int size)
{
	char *text = malloc((size_t)size + 1);
	json_t *content;

	if (text == NULL)
		return NULL;
	memset(text, 'a' + number % 26, (size_t)size);
	text[size] = '\0';
	content = json_pack("{s:i, s:s}", "number", number, "text", text);
	free(text);
	return content;
}

int main(int argc, char **argv)
{
	struct state *state = NULL;
	struct error err;
	int number, size;

	loop = loop_new();
	if (argc != 2 || loop == NULL)
		return 2;
	if (load(argv[1], &err) != 0 || state_new(&state, loop, argv[1], &err) != 0) {
		printf("refused %s\n", err.message);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (scanf("%d %d", &number, &size) == 2) {
		if (state_write(state, make_content(number, size), done, &number) != 0)
			return 2;
		loop_run(loop);
	}
	state_free(state);
	loop_free(loop);
	return 0;
}
