#include "base/interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace tonearm {
namespace {

volatile sig_atomic_t asked_to_stop = 0;

extern "C" void on_signal(int) {
  if (asked_to_stop) _exit(130);
  asked_to_stop = 1;
}

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // a file being read or written must not fail half-way
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return asked_to_stop != 0; }

}  // namespace tonearm
