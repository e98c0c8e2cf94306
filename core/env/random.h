// Chance, as a node gets it: keyed draws in the simulator, the operating system's randomness for real. See
// core/base/chance.h; this name exists so that Env reads as the design has it.
#pragma once

#include "core/base/chance.h"

namespace mneme::env {

using Random = Chance;

}  // namespace mneme::env
