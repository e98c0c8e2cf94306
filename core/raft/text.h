// Messages as one line of text, for traces and golden scripts: "2->1 append term 3 after 11/2 commit 9 entries 12/3".
// Positions are index/term.
#pragma once

#include <string>

#include "core/raft/types.h"

namespace mneme::raft {

std::string text_of(const LogPosition& position);
// Without the entries.
std::string head_of(const Message& message);
// With the first and last of the entries.
std::string text_of(const Message& message);

}  // namespace mneme::raft
