// Redis commands that Mneme does not have on purpose, and what people are told to use instead.
//
// They are no rows of the command table: COMMAND does not list them, so that clients which look first do not try.
#pragma once

#include <string_view>

namespace mneme::kv {

// An error's text, empty when the command is simply unknown. `name` in any case; "cluster|meet" is a sub-command.
[[nodiscard]] std::string_view refusal_of(std::string_view name);

}  // namespace mneme::kv
