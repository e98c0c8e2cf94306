// Messages as one line of text, for traces and golden scripts: "2->1 append term 3 after 11/2 commit 9 entries 12/3".
// Positions are index/term.
#pragma once

#include <string>

#include "core/raft/configuration.h"
#include "core/raft/types.h"

namespace mneme::raft {

std::string text_of(const LogPosition& position);
// "3", or "3.2" for generation 2 on node 3.
std::string text_of(ReplicaId id);
// "voters 1,2,3 outgoing 1,2 learners 4.1".
std::string text_of(const Configuration& configuration);
// Without the entries.
std::string head_of(const Message& message);
// With the first and last of the entries.
std::string text_of(const Message& message);

}  // namespace mneme::raft
