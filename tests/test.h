// Catch2 for our tests. Include it after everything of Mneme's: its CHECK takes the place of ours from here on, so that
// headers keep ours and test cases get Catch's.
#pragma once

#include "core/base/check.h"
#undef CHECK
#include <catch2/catch.hpp>
