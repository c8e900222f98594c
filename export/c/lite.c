/* Translates lines of token ids from standard input to standard output with an exported .tflite
 * model and LiteRT's C API: there is no Python and no TensorFlow in the process. END_ID is the
 * tokenizer's end, by default 3.
 *
 * The ai-edge-litert package has the library but not its headers, so what is used of them is
 * declared here, as the headers in litert/c of LiteRT 2.3 have it. Look there again before using
 * another version: a function can change while its symbol keeps its name. */

#define _POSIX_C_SOURCE 200809L

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;

enum { ENV_OPTION_MIN_LOGGER_SEVERITY = 25, ANY_INT = 2, SEVERITY_ERROR = 3 };
enum { ACCELERATOR_CPU = 1, ELEMENT_FLOAT32 = 1, ELEMENT_INT32 = 2 };

typedef struct {
  int tag;
  struct {
    int type;
    int64_t value;
  } any;
} LiteRtEnvOption;

typedef struct {
  unsigned int rank : 7;
  unsigned int has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
} LiteRtLayout;

typedef struct {
  int element_type;
  LiteRtLayout layout;
} LiteRtRankedTensorType;

static_assert(sizeof(LiteRtEnvOption) == 24, "LiteRT has another LiteRtEnvOption");
static_assert(sizeof(LiteRtRankedTensorType) == 72, "LiteRT has another LiteRtRankedTensorType");

int LiteRtCreateEnvironment(int count, const LiteRtEnvOption *options, LiteRtEnvironment *);
int LiteRtCreateModelFromFile(LiteRtEnvironment, const char *path, LiteRtModel *);
int LiteRtGetNumModelSignatures(LiteRtModel, size_t *count);
int LiteRtGetModelSignature(LiteRtModel, size_t index, LiteRtSignature *);
int LiteRtGetSignatureKey(LiteRtSignature, const char **key);
int LiteRtGetNumSignatureInputs(LiteRtSignature, size_t *count);
int LiteRtGetNumSignatureOutputs(LiteRtSignature, size_t *count);
int LiteRtGetSignatureOutputName(LiteRtSignature, size_t index, const char **name);
int LiteRtCreateOptions(LiteRtOptions *);
int LiteRtSetOptionsHardwareAccelerators(LiteRtOptions, int accelerators);
int LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions,
                              LiteRtCompiledModel *);
int LiteRtCompiledModelResizeInputTensor(LiteRtCompiledModel, size_t signature, size_t input,
                                         const int *dims, size_t rank);
int LiteRtCreateTensorBufferFromHostMemory(const LiteRtRankedTensorType *, void *memory,
                                           size_t size, void (*deallocate)(void *),
                                           LiteRtTensorBuffer *);
int LiteRtRunCompiledModel(LiteRtCompiledModel, size_t signature, size_t inputs,
                           LiteRtTensorBuffer *, size_t outputs, LiteRtTensorBuffer *);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel);
void LiteRtDestroyOptions(LiteRtOptions);
void LiteRtDestroyModel(LiteRtModel);
void LiteRtDestroyEnvironment(LiteRtEnvironment);

enum { OUTPUTS = 3 };
/* How long a translation gets is known only after the run, and LiteRT checks no size while it
 * writes one: this is the most that ktransformer exports. */
enum { MOST_IDS = 1 << 16, ALIGNMENT = 64 };

typedef struct {
  LiteRtCompiledModel compiled;
  size_t signature;
  int32_t end_id, *source, *target, *truncated;
  LiteRtTensorBuffer outputs[OUTPUTS];
} Translator;

static _Noreturn void fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("lite: ", stderr);
  vfprintf(stderr, format, values);
  fputc('\n', stderr);
  va_end(values);
  exit(EXIT_FAILURE);
}

static void check(int status, const char *what) {
  if (status != 0) fail("%s (LiteRT's status %d).", what, status);
}

/* Prepares the model without the line "INFO: Created TensorFlow Lite XNNPACK delegate", which no
 * severity keeps back; everything else that is logged meanwhile is shown. */
static int compile_quietly(LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
                           LiteRtCompiledModel *compiled) {
  FILE *held_back = tmpfile();
  const int before = dup(STDERR_FILENO);
  if (held_back != NULL && before >= 0) dup2(fileno(held_back), STDERR_FILENO);
  const int status = LiteRtCreateCompiledModel(environment, model, options, compiled);
  if (before >= 0) {
    dup2(before, STDERR_FILENO);
    close(before);
  }
  if (held_back == NULL) return status;
  rewind(held_back);
  char line[512];
  while (fgets(line, sizeof line, held_back) != NULL)
    if (strncmp(line, "INFO: ", 6) != 0) fputs(line, stderr);
  fclose(held_back);
  return status;
}

static LiteRtTensorBuffer make_buffer(int element_type, unsigned int rank, size_t length,
                                      void *memory) {
  LiteRtRankedTensorType type = {.element_type = element_type};
  type.layout.rank = rank;
  type.layout.dimensions[0] = 1;
  if (rank == 2) type.layout.dimensions[1] = (int32_t)length;
  LiteRtTensorBuffer buffer;
  check(LiteRtCreateTensorBufferFromHostMemory(&type, memory, length * sizeof(int32_t), NULL,
                                               &buffer),
        "cannot make a tensor");
  return buffer;
}

static void *allocate(size_t size) {
  void *memory = aligned_alloc(ALIGNMENT, size);
  if (memory == NULL) fail("out of memory.");
  return memory;
}

/* Finds the signature and the order of its outputs: only their names are a promise. */
static LiteRtSignature find_signature(LiteRtModel model, const char *wanted, size_t *index) {
  size_t count;
  check(LiteRtGetNumModelSignatures(model, &count), "cannot read the model's signatures");
  for (*index = 0; *index < count; ++*index) {
    LiteRtSignature signature;
    const char *key;
    check(LiteRtGetModelSignature(model, *index, &signature), "cannot read a signature");
    check(LiteRtGetSignatureKey(signature, &key), "cannot read a signature's name");
    if (strcmp(key, wanted) == 0) return signature;
  }
  fail("the model has no signature \"%s\".", wanted);
}

static size_t parse_ids(const char *line, int32_t *ids) {
  size_t length = 0;
  for (;;) {
    line += strspn(line, " \t\r\n");
    if (*line == '\0') return length;
    char *end;
    errno = 0;
    const long id = strtol(line, &end, 10);
    if (end == line || errno != 0 || id < 0 || id > INT32_MAX || strchr(" \t\r\n", *end) == NULL)
      fail("\"%.*s\" is not an id.", (int)strcspn(line, " \t\r\n"), line);
    /* One place stays free for the end. */
    if (length == MOST_IDS - 1) fail("a line has over %d ids.", MOST_IDS - 1);
    ids[length++] = (int32_t)id;
    line = end;
  }
}

/* Prints the translation's ids; tells whether the source was cut for being too long. */
static int translate(Translator *translator, size_t length) {
  if (length == 0) return 0;
  translator->source[length++] = translator->end_id;
  const int dims[] = {1, (int)length};
  check(LiteRtCompiledModelResizeInputTensor(translator->compiled, translator->signature, 0, dims,
                                             2),
        "cannot resize the input");
  LiteRtTensorBuffer input = make_buffer(ELEMENT_INT32, 2, length, translator->source);
  translator->target[0] = translator->end_id;
  check(LiteRtRunCompiledModel(translator->compiled, translator->signature, 1, &input, OUTPUTS,
                               translator->outputs),
        "cannot translate");
  LiteRtDestroyTensorBuffer(input);
  const int32_t *target = translator->target;
  for (size_t i = 0; i < MOST_IDS && target[i] != translator->end_id; i++)
    printf(i == 0 ? "%d" : " %d", (int)target[i]);
  return *translator->truncated;
}

int main(int argc, char **argv) {
  if (argc != 2 && argc != 3)
    fail("usage: lite MODEL.tflite [END_ID] <source_ids >translation_ids");
  const LiteRtEnvOption quiet = {ENV_OPTION_MIN_LOGGER_SEVERITY, {ANY_INT, SEVERITY_ERROR}};
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  Translator translator = {.end_id = argc == 3 ? (int32_t)strtol(argv[2], NULL, 10) : 3};
  check(LiteRtCreateEnvironment(1, &quiet, &environment), "cannot start LiteRT");
  if (LiteRtCreateModelFromFile(environment, argv[1], &model) != 0)
    fail("%s is not a LiteRT model that can be read.", argv[1]);
  check(LiteRtCreateOptions(&options), "cannot make LiteRT's options");
  check(LiteRtSetOptionsHardwareAccelerators(options, ACCELERATOR_CPU), "cannot choose the CPU");
  check(compile_quietly(environment, model, options, &translator.compiled),
        "cannot prepare the model");

  LiteRtSignature signature = find_signature(model, "ids", &translator.signature);
  size_t inputs, outputs;
  check(LiteRtGetNumSignatureInputs(signature, &inputs), "cannot count the inputs");
  check(LiteRtGetNumSignatureOutputs(signature, &outputs), "cannot count the outputs");
  if (inputs != 1 || outputs != OUTPUTS) fail("the signature \"ids\" is of another version.");
  translator.source = allocate(MOST_IDS * sizeof(int32_t));
  translator.target = allocate(MOST_IDS * sizeof(int32_t));
  translator.truncated = allocate(ALIGNMENT);
  float *score = allocate(ALIGNMENT);
  for (size_t i = 0; i < OUTPUTS; i++) {
    const char *name;
    check(LiteRtGetSignatureOutputName(signature, i, &name), "cannot read an output's name");
    if (strcmp(name, "ids") == 0)
      translator.outputs[i] = make_buffer(ELEMENT_INT32, 2, MOST_IDS, translator.target);
    else if (strcmp(name, "truncated") == 0)
      translator.outputs[i] = make_buffer(ELEMENT_INT32, 1, 1, translator.truncated);
    else
      translator.outputs[i] = make_buffer(ELEMENT_FLOAT32, 1, 1, score);
  }

  char *line = NULL;
  size_t capacity = 0;
  long cut = 0;
  while (getline(&line, &capacity, stdin) >= 0) {
    cut += translate(&translator, parse_ids(line, translator.source));
    putchar('\n');
    /* At once, so that another program can wait for each answer. */
    if (fflush(stdout) != 0) fail("cannot write the translation: %s.", strerror(errno));
  }
  if (ferror(stdin)) fail("cannot read the source: %s.", strerror(errno));
  if (cut > 0) fprintf(stderr, "lite: %ld lines were cut, for they were too long.\n", cut);

  free(line);
  for (size_t i = 0; i < OUTPUTS; i++) LiteRtDestroyTensorBuffer(translator.outputs[i]);
  LiteRtDestroyCompiledModel(translator.compiled);
  LiteRtDestroyOptions(options);
  LiteRtDestroyModel(model);
  LiteRtDestroyEnvironment(environment);
  free(translator.source);
  free(translator.target);
  free(translator.truncated);
  free(score);
  return EXIT_SUCCESS;
}
