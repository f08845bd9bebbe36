#pragma once

namespace tonearm {

/// From here on SIGINT and SIGTERM only set a flag; a second one ends the process at once.
void catch_interrupts();

/// True once the user has asked to stop. Long work polls it, saves what is worth keeping, and throws
/// Interrupted.
bool interrupted();

}  // namespace tonearm
