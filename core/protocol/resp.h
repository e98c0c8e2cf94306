// RESP at the edge of a connection: requests in, canonical replies out in the version that the client speaks.
//
// Requests: core/protocol/request.h. Replies: made with core/protocol/reply.h, read with core/protocol/reply_reader.h.
// The translations take any number of whole canonical replies one after another and append them to a string that the
// caller owns. They CHECK what they read: it is ours. Bytes from a peer pass through reply_length first.
#pragma once

#include <string>
#include <string_view>

#include "core/protocol/reply.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"

namespace mneme::protocol {

// To RESP2, by the table in reply.h. What is the same in both is copied in one piece.
void downgrade(std::string_view canonical, std::string& out);

// To RESP3: only null arrays differ from the canonical form.
void to_resp3(std::string_view canonical, std::string& out);

}  // namespace mneme::protocol
