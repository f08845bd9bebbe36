/* Preloaded into a program, kills it at its n-th call that changes a file, as a power cut might: before the
 * call, or, of a write, when half of it is done. n is the environment variable KILL_AT; negative, in the
 * middle. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls;

/* Whether this call is the one, and is to be done by half. */
static int is_reached(int can_be_halved) {
  const char* text = getenv("KILL_AT");
  const int at = text == NULL ? 0 : atoi(text);
  if (at == 0 || atomic_fetch_add(&calls, 1) + 1 != abs(at)) return 0;
  if (at < 0 && can_be_halved) return 1;
  kill(getpid(), SIGKILL);
  return 0;
}

ssize_t write(int file, const void* bytes, size_t size) {
  ssize_t (*const real)(int, const void*, size_t) =
      (ssize_t(*)(int, const void*, size_t))dlsym(RTLD_NEXT, "write");
  if (is_reached(1)) {
    real(file, bytes, size / 2);
    kill(getpid(), SIGKILL);
  }
  return real(file, bytes, size);
}

int ftruncate(int file, off_t size) {
  int (*const real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate");
  is_reached(0);
  return real(file, size);
}

int fsync(int file) {
  int (*const real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  is_reached(0);
  return real(file);
}

int rename(const char* from, const char* to) {
  int (*const real)(const char*, const char*) = (int (*)(const char*, const char*))dlsym(RTLD_NEXT, "rename");
  is_reached(0);
  return real(from, to);
}

int unlink(const char* path) {
  int (*const real)(const char*) = (int (*)(const char*))dlsym(RTLD_NEXT, "unlink");
  is_reached(0);
  return real(path);
}

int remove(const char* path) {
  int (*const real)(const char*) = (int (*)(const char*))dlsym(RTLD_NEXT, "remove");
  is_reached(0);
  return real(path);
}
