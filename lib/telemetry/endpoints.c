/* SPDX-License-Identifier: BSD-3-Clause */
/* Endpoints of DPDK's telemetry; telemetry/endpoints.h is the contract. */
#include "telemetry/endpoints.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_telemetry.h>
#include <rte_version.h>

#include "base/units.h"

#define WAIT_S 1
#define KEY_SIZE 64 /* as rte_telemetry.h has it for names */

#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define add_dict_uint rte_tel_data_add_dict_u64
#define add_array_uint rte_tel_data_add_array_u64
#define ARRAY_OF_UINT RTE_TEL_U64_VAL
#else
#define add_dict_uint rte_tel_data_add_dict_uint
#define add_array_uint rte_tel_data_add_array_uint
#define ARRAY_OF_UINT RTE_TEL_UINT_VAL
#endif

/* A question on its way, which the last of the two that know it frees. */
struct question {
	const struct endpoint *endpoint;
	char parameters[256];
	pthread_cond_t answered;
	bool is_answered;
	unsigned int users;
	json_t *answer;
};

/* DPDK knows no endpoint's context, and never forgets one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct loop *loop;
static const struct endpoint *endpoints;
static void *context;

/*
 * Names are ASCII, and DPDK makes no JSON of anything else (22.11 reads beyond its table of
 * escapes).
 */
static void make_ascii(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text > '~')
			*text = '?';
}

/* With the lock held. */
static void release(struct question *question)
{
	if (--question->users > 0)
		return;
	json_decref(question->answer);
	pthread_cond_destroy(&question->answered);
	free(question);
}

/* ---- on the control thread ---- */

static void answer_question(void *argument)
{
	struct question *question = argument;
	json_t *answer = question->endpoint->answer(context, question->parameters);

	pthread_mutex_lock(&lock);
	question->answer = answer;
	question->is_answered = true;
	pthread_cond_signal(&question->answered);
	release(question);
	pthread_mutex_unlock(&lock);
}

/* ---- on DPDK's ---- */

static struct question *question_new(const struct endpoint *endpoint, const char *parameters)
{
	struct question *question = calloc(1, sizeof(*question));
	pthread_condattr_t attributes;

	if (question == NULL)
		return NULL;
	question->endpoint = endpoint;
	snprintf(question->parameters, sizeof(question->parameters), "%s",
		 parameters != NULL ? parameters : "");
	make_ascii(question->parameters);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&question->answered, &attributes);
	pthread_condattr_destroy(&attributes);
	question->users = 1;
	return question;
}

static const struct endpoint *find_endpoint(const char *command)
{
	for (const struct endpoint *row = endpoints; row->command != NULL; row++)
		if (strcmp(row->command, command) == 0)
			return row;
	return NULL;
}

json_t *endpoints_ask(const char *command, const char *parameters, const char **fault)
{
	const struct endpoint *endpoint = find_endpoint(command);
	struct question *question =
		endpoint != NULL ? question_new(endpoint, parameters) : NULL;
	struct timespec until;
	json_t *answer = NULL;

	*fault = endpoint != NULL ? "out of memory" : "there is no such endpoint";
	if (question == NULL)
		return NULL;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&lock);
	/* The control thread never waits for this lock but for moments. */
	if (loop == NULL) {
		*fault = "the switch is being shut down";
	} else if (loop_post(loop, answer_question, question) == 0) {
		int result = 0;

		question->users++;
		while (!question->is_answered && result == 0)
			result = pthread_cond_timedwait(&question->answered, &lock, &until);
		answer = question->answer;
		question->answer = NULL;
		if (!question->is_answered)
			*fault = "the control thread did not answer within a second";
	}
	release(question);
	pthread_mutex_unlock(&lock);
	return answer;
}

/* ---- from JSON ---- */

static int to_int(json_int_t value)
{
	return value < INT_MIN ? INT_MIN : (int)value;
}

static int add_list(struct rte_tel_data *to, const json_t *list)
{
	const bool strings = json_is_string(json_array_get(list, 0));
	int result = rte_tel_data_start_array(to, strings ? RTE_TEL_STRING_VAL : ARRAY_OF_UINT);
	size_t count = json_array_size(list);

	for (size_t i = 0; i < count && result == 0; i++) {
		const json_t *value = json_array_get(list, i);

		result = strings ? rte_tel_data_add_array_string(to, json_string_value(value))
				 : add_array_uint(to, (uint64_t)json_integer_value(value));
	}
	return result;
}

static int add_inner_list(struct rte_tel_data *to, const char *key, const json_t *list)
{
	struct rte_tel_data *inner = rte_tel_data_alloc();
	int result;

	if (inner == NULL)
		return -ENOMEM;
	result = add_list(inner, list);
	if (result == 0)
		result = rte_tel_data_add_dict_container(to, key, inner, 0);
	if (result != 0)
		rte_tel_data_free(inner);
	return result;
}

static int add_object(struct rte_tel_data *to, const char *prefix, const json_t *object);

static int add_value(struct rte_tel_data *to, const char *key, const json_t *value)
{
	char text[RTE_TEL_MAX_STRING_LEN];

	switch (json_typeof(value)) {
	case JSON_INTEGER:
		if (json_integer_value(value) < 0)
			return rte_tel_data_add_dict_int(to, key,
							 to_int(json_integer_value(value)));
		return add_dict_uint(to, key, (uint64_t)json_integer_value(value));
	case JSON_TRUE:
	case JSON_FALSE:
		return add_dict_uint(to, key, json_is_true(value));
	case JSON_STRING:
		text_copy(text, sizeof(text), json_string_value(value));
		make_ascii(text);
		return rte_tel_data_add_dict_string(to, key, text);
	case JSON_ARRAY:
		return add_inner_list(to, key, value);
	case JSON_OBJECT:
		return add_object(to, key, value);
	default:
		return 0;
	}
}

static int add_object(struct rte_tel_data *to, const char *prefix, const json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		char name[KEY_SIZE];
		int result;

		snprintf(name, sizeof(name), "%s%s%s", prefix, prefix[0] != '\0' ? "_" : "", key);
		result = add_value(to, name, value);
		if (result != 0)
			return result;
	}
	return 0;
}

/* As rte_telemetry.h has it: what returns less than 0 is answered with `null`. */
static int handle(const char *command, const char *parameters, struct rte_tel_data *data)
{
	const char *fault = NULL;
	json_t *answer = endpoints_ask(command, parameters, &fault);
	int result;

	if (json_is_array(answer)) {
		result = add_list(data, answer);
	} else {
		result = rte_tel_data_start_dict(data);
		if (answer != NULL)
			result |= add_object(data, "", answer);
		else
			result |= rte_tel_data_add_dict_string(data, "error", fault);
	}
	json_decref(answer);
	return result == 0 ? 0 : -1;
}

int endpoints_open(struct loop *control, const struct endpoint *table, void *argument)
{
	int result = 0;

	pthread_mutex_lock(&lock);
	loop = control;
	endpoints = table;
	context = argument;
	pthread_mutex_unlock(&lock);
	for (const struct endpoint *row = table; row->command != NULL && result == 0; row++)
		result = rte_telemetry_register_cmd(row->command, handle, row->help);
	return result;
}

void endpoints_close(void)
{
	pthread_mutex_lock(&lock);
	loop = NULL;
	pthread_mutex_unlock(&lock);
}
