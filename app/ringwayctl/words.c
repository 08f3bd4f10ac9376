/* SPDX-License-Identifier: BSD-3-Clause */
/* From words to a request; words.h is the contract. */
#include "words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema.h"
#include "text.h"

#define METHOD_SIZE 128

int words_refuse(const char *message, const char *subject)
{
	fprintf(stderr, "ringwayctl: %s", message);
	if (subject != NULL) {
		fputs(": ", stderr);
		text_write(stderr, subject);
	}
	fputs(" (see ringwayctl help)\n", stderr);
	return USAGE;
}

int words_method(int count, char *const *words, char *name, size_t size)
{
	if (count < 1)
		return 0;
	if (count > 1 && strchr(words[0], '.') == NULL && strpbrk(words[1], "=@") == NULL) {
		snprintf(name, size, "%s.%s", words[0], words[1]);
		return 2;
	}
	snprintf(name, size, "%s", words[0]);
	return 1;
}

/* JSON from a file, "-" for standard input. NULL after a complaint. */
static json_t *load_file(const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	json_error_t error;
	char message[512];
	json_t *value;

	if (file == NULL) {
		snprintf(message, sizeof(message), "cannot open the file: %s", strerror(errno));
		words_refuse(message, path);
		return NULL;
	}
	value = json_loadf(file, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	if (file != stdin)
		fclose(file);
	if (value == NULL) {
		snprintf(message, sizeof(message), "%s:%d:%d", path, error.line, error.column);
		words_refuse(error.text, message);
	}
	return value;
}

/* A value as the schema wants it. NULL after a complaint. */
static json_t *parse_value(const char *key, const char *text, json_t *method)
{
	json_t *ways = schema_ways(method, key);
	json_t *value;

	if (text[0] == '@') {
		value = load_file(text + 1);
		goto out;
	}
	value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	/* null stands for a default, or for what is to go away, whatever the type. */
	if (value == NULL ||
	    (!json_is_null(value) && !schema_takes(ways, schema_type_of(value)) &&
	     schema_takes(ways, "string"))) {
		json_decref(value);
		value = json_string(text);
		if (value == NULL)
			words_refuse("this is not UTF-8", text);
	}
out:
	json_decref(ways);
	return value;
}

/* Puts the value under a key with dots; takes it over. */
static int set_value(json_t *params, char *key, json_t *value, const char *word)
{
	json_t *object = params;
	char *dot;

	for (; (dot = strchr(key, '.')) != NULL; key = dot + 1) {
		json_t *inner;

		*dot = '\0';
		inner = json_object_get(object, key);
		if (inner == NULL && json_object_set_new(object, key, json_object()) == 0)
			inner = json_object_get(object, key);
		if (key[0] == '\0' || !json_is_object(inner))
			goto refuse;
		object = inner;
	}
	if (key[0] == '\0' || json_object_get(object, key) != NULL)
		goto refuse;
	if (json_object_set_new(object, key, value) != 0)
		return words_refuse("this is not UTF-8", word);
	return DONE;

refuse:
	json_decref(value);
	return words_refuse("this key is empty, given twice, or a value and an object at once",
			    word);
}

static int add_value(json_t *params, const char *path, const char *text, const char *word,
		     json_t *method)
{
	json_t *value = parse_value(path, text, method);
	char *key;
	int rc;

	if (value == NULL)
		return USAGE;
	key = strdup(path);
	if (key == NULL) {
		json_decref(value);
		return words_refuse("out of memory", NULL);
	}
	rc = set_value(params, key, value, word);
	free(key);
	return rc;
}

/* A word without a key: the first required parameter. */
static int add_bare(json_t *params, const char *word, json_t *method)
{
	json_t *param;
	size_t i;

	json_array_foreach(json_object_get(method, "params"), i, param)
		if (json_is_true(json_object_get(param, "required")))
			return add_value(params,
					 json_string_value(json_object_get(param, "name")), word,
					 word, method);
	return words_refuse("a parameter must be KEY=VALUE", word);
}

static int add_keyed(json_t *params, const char *word, json_t *method)
{
	const char *equals = strchr(word, '=');
	char *key;
	int rc;

	if (equals == NULL)
		return words_refuse("a parameter must be KEY=VALUE", word);
	key = strndup(word, (size_t)(equals - word));
	if (key == NULL)
		return words_refuse("out of memory", NULL);
	rc = add_value(params, key, equals + 1, word, method);
	free(key);
	return rc;
}

/* @FILE: parameters in a file, over which those of the other words go. */
static int add_file(json_t **file, const char *word)
{
	if (*file != NULL)
		return words_refuse("only one file can hold the parameters", word);
	*file = load_file(word + 1);
	if (*file == NULL)
		return USAGE;
	if (!json_is_object(*file))
		return words_refuse("the file must hold a JSON object of parameters", word);
	return DONE;
}

int words_parse(int count, char *const *words, struct request *request)
{
	json_t *method, *file = NULL;
	char name[METHOD_SIZE];
	int used = words_method(count, words, name, sizeof(name));
	int rc = DONE;

	if (used == 0)
		return words_refuse("a method is missing", NULL);
	if (strchr(words[0], '=') != NULL)
		return words_refuse("a method must come before its parameters", words[0]);
	request->method = strdup(name);
	if (request->method == NULL)
		return words_refuse("out of memory", NULL);
	method = schema_method(name);
	if (count > used)
		request->params = json_object();
	for (int i = used; i < count && rc == DONE; i++) {
		if (words[i][0] == '@')
			rc = add_file(&file, words[i]);
		else if (i == used && strchr(words[i], '=') == NULL)
			rc = add_bare(request->params, words[i], method);
		else
			rc = add_keyed(request->params, words[i], method);
	}
	if (rc == DONE && file != NULL) {
		json_object_update_recursive(file, request->params);
		json_decref(request->params);
		request->params = json_incref(file);
	}
	json_decref(file);
	return rc;
}

void request_release(struct request *request)
{
	json_decref(request->params);
	free(request->method);
}
