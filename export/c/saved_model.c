/* Translates standard input to standard output, a line for a line, with an exported SavedModel
 * and TensorFlow's C API: there is no Python in the process. */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>
#include <unistd.h>

/* The field numbers of tensorflow/core/protobuf/meta_graph.proto and of any protobuf map. */
enum { META_GRAPH_SIGNATURES = 5, SIGNATURE_INPUTS = 1, SIGNATURE_OUTPUTS = 2, TENSOR_NAME = 1 };
enum { MAP_KEY = 1, MAP_VALUE = 2 };

typedef struct {
  const uint8_t *data;
  size_t size;
} Bytes;

#define LOG_LEVEL "TF_CPP_MIN_LOG_LEVEL"

static int stderr_before = -1;

/* Runs before TensorFlow's library is initialised, which is before main: it logs meanwhile, whatever
 * the log level, and reads the level. So the program starts itself again with a level of 3, fatal
 * errors alone, unless one is set, and its stderr leads nowhere until main. A level of 0 shows all. */
static void start_quietly(int argc, char **argv, char **environment) {
  (void)argc;
  size_t count = 0;
  const char *level = NULL;
  for (; environment[count] != NULL; count++)
    if (strncmp(environment[count], LOG_LEVEL "=", sizeof LOG_LEVEL) == 0)
      level = environment[count] + sizeof LOG_LEVEL;
  if (level == NULL) {
    char *with_level[count + 2];
    memcpy(with_level, environment, count * sizeof *environment);
    with_level[count] = LOG_LEVEL "=3";
    with_level[count + 1] = NULL;
    execve("/proc/self/exe", argv, with_level); /* Comes back only where there is no /proc. */
  } else if (strcmp(level, "0") == 0) {
    return;
  }
  const int nowhere = open("/dev/null", O_WRONLY);
  stderr_before = dup(STDERR_FILENO);
  if (nowhere >= 0 && stderr_before >= 0) dup2(nowhere, STDERR_FILENO);
  if (nowhere >= 0) close(nowhere);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(
    int, char **, char **) = start_quietly;

static void restore_stderr(void) {
  if (stderr_before < 0) return;
  dup2(stderr_before, STDERR_FILENO);
  close(stderr_before);
}

static _Noreturn void fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("saved_model: ", stderr);
  vfprintf(stderr, format, values);
  fputc('\n', stderr);
  va_end(values);
  exit(EXIT_FAILURE);
}

static void check(const TF_Status *status, const char *what, const char *name) {
  if (TF_GetCode(status) == TF_OK) return;
  const char *reason = TF_Message(status);
  fail("%s %s: %.*s", what, name, (int)strcspn(reason, "\n"), reason);
}

static uint64_t read_varint(Bytes *rest) {
  uint64_t value = 0;
  for (unsigned shift = 0; rest->size > 0 && shift < 64; shift += 7) {
    const uint8_t byte = *rest->data++;
    rest->size--;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  fail("the model's signatures cannot be read.");
}

/* Takes the next field off `rest`; the value of a number stays empty, for none is of use here. */
static bool next_field(Bytes *rest, uint64_t *field, Bytes *value) {
  if (rest->size == 0) return false;
  const uint64_t tag = read_varint(rest);
  uint64_t size = 0;
  switch (tag & 7) {
    case 0: read_varint(rest); break;
    case 1: size = 8; break;
    case 2: size = read_varint(rest); break;
    case 5: size = 4; break;
    default: size = UINT64_MAX;
  }
  if (size > rest->size) fail("the model's signatures cannot be read.");
  *field = tag >> 3;
  *value = (Bytes){rest->data, size};
  rest->data += size;
  rest->size -= size;
  return true;
}

static Bytes get_field(Bytes message, uint64_t wanted) {
  uint64_t field;
  Bytes value;
  while (next_field(&message, &field, &value))
    if (field == wanted) return value;
  return (Bytes){NULL, 0};
}

static Bytes get_map_value(Bytes message, uint64_t map, const char *key) {
  uint64_t field;
  Bytes entry;
  while (next_field(&message, &field, &entry)) {
    if (field != map) continue;
    const Bytes name = get_field(entry, MAP_KEY);
    if (name.size == strlen(key) && memcmp(name.data, key, name.size) == 0)
      return get_field(entry, MAP_VALUE);
  }
  fail("the model's signatures have no \"%s\".", key);
}

/* The exporter chooses the names in the graph; only the signature's own names are a promise. */
static TF_Output find_tensor(TF_Graph *graph, Bytes signature, uint64_t side, const char *key,
                             TF_DataType type) {
  const Bytes name = get_field(get_map_value(signature, side, key), TENSOR_NAME);
  char operation[256];
  if (name.size == 0 || name.size >= sizeof operation) fail("\"%s\" names no tensor.", key);
  memcpy(operation, name.data, name.size);
  operation[name.size] = '\0';
  char *index = strrchr(operation, ':');
  if (index != NULL) *index++ = '\0';
  TF_Operation *found = TF_GraphOperationByName(graph, operation);
  if (found == NULL) fail("\"%s\" is %s, which is not in the graph.", key, operation);
  const TF_Output tensor = {found, index == NULL ? 0 : atoi(index)};
  if (TF_OperationOutputType(tensor) != type) fail("\"%s\" is of another type.", key);
  return tensor;
}

/* Prints the translation of one line; tells whether the line was cut for being too long. */
static bool translate(TF_Session *session, TF_Output texts, const TF_Output outputs[2],
                      TF_Status *status, const char *line, size_t size) {
  const int64_t batch = 1;
  TF_Tensor *input = TF_AllocateTensor(TF_STRING, &batch, 1, sizeof(TF_TString));
  TF_Tensor *values[2] = {NULL, NULL};
  TF_TString *source = TF_TensorData(input);
  TF_StringInit(source);
  TF_StringCopy(source, line, size);
  TF_SessionRun(session, NULL, &texts, &input, 1, outputs, values, 2, NULL, 0, NULL, status);
  check(status, "cannot translate", line);
  const TF_TString *target = TF_TensorData(values[0]);
  fwrite(TF_StringGetDataPointer(target), 1, TF_StringGetSize(target), stdout);
  const bool truncated = *(const bool *)TF_TensorData(values[1]);
  TF_DeleteTensor(values[0]);
  TF_DeleteTensor(values[1]);
  /* A tensor made here frees its array, but not what a long string keeps outside of it. */
  TF_StringDealloc(source);
  TF_DeleteTensor(input);
  return truncated;
}

int main(int argc, char **argv) {
  restore_stderr();
  if (argc < 2) fail("usage: saved_model MODEL_FOLDER [OPS_LIBRARY]... <source >translation");
  TF_Status *status = TF_NewStatus();
  /* Before the model, whose graph has these operations. */
  for (int i = 2; i < argc; i++) {
    TF_Library *library = TF_LoadLibrary(argv[i], status);
    check(status, "cannot load the library", argv[i]);
    TF_DeleteLibraryHandle(library); /* The library itself stays. */
  }

  TF_Graph *graph = TF_NewGraph();
  TF_Buffer *meta_graph = TF_NewBuffer();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph,
                                                     meta_graph, status);
  check(status, "cannot load the model", argv[1]);
  const Bytes signature = get_map_value((Bytes){meta_graph->data, meta_graph->length},
                                        META_GRAPH_SIGNATURES, "serving_default");
  const TF_Output texts = find_tensor(graph, signature, SIGNATURE_INPUTS, "texts", TF_STRING);
  const TF_Output outputs[] = {
      find_tensor(graph, signature, SIGNATURE_OUTPUTS, "text", TF_STRING),
      find_tensor(graph, signature, SIGNATURE_OUTPUTS, "truncated", TF_BOOL),
  };

  char *line = NULL;
  size_t capacity = 0, cut = 0;
  ssize_t size;
  while ((size = getline(&line, &capacity, stdin)) >= 0) {
    if (size > 0 && line[size - 1] == '\n') line[--size] = '\0';
    cut += translate(session, texts, outputs, status, line, (size_t)size);
    putchar('\n');
    /* At once, so that another program can wait for each answer. */
    if (fflush(stdout) != 0) fail("cannot write the translation: %s.", strerror(errno));
  }
  if (ferror(stdin)) fail("cannot read the source: %s.", strerror(errno));
  if (cut > 0) fprintf(stderr, "saved_model: %zu lines were cut, for they were too long.\n", cut);

  free(line);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteBuffer(meta_graph);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return EXIT_SUCCESS;
}
