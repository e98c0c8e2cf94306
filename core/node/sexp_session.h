// Serves one client of the S-expression protocol (core/protocol/sexp.h): a frame of commands, executed in order as one
// batch, answered by one frame.
#pragma once

#include <string>

#include "core/node/server.h"

namespace mneme::node {

// Suspends until the client leaves. `buffer`: what was read of the stream already.
void serve_sexp(Server& server, env::Stream& stream, std::string buffer);

}  // namespace mneme::node
