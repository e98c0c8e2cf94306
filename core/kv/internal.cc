#include "core/kv/internal.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/bytes.h"
#include "core/protocol/reply.h"

namespace mneme::kv {

namespace {

constexpr uint8_t kSplitVersion = 1;

std::string encode_number(uint64_t number) {
  std::string bytes;
  Writer(bytes).u64(number);
  return bytes;
}

std::string_view prefix_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kRefused: return "REFUSED";
    case ErrorCode::kNotFound: return "NOTFOUND";
    case ErrorCode::kInvalid: return "INVALID";
    case ErrorCode::kExists: return "EXISTS";
    case ErrorCode::kTooLarge: return "TOOLARGE";
    case ErrorCode::kUnavailable: return "UNAVAILABLE";
    default: return "ERR";
  }
}

}  // namespace

std::string SplitRequest::encode() const {
  std::string bytes;
  Writer out(bytes);
  out.u8(kSplitVersion);
  out.id(epoch);
  out.u16(at);
  out.id(child);
  out.id(operation);
  out.blob(configuration);
  return bytes;
}

Result<SplitRequest> SplitRequest::decode(std::string_view bytes) {
  Reader in(bytes);
  const uint8_t version = in.u8();
  if (in.ok() && version != kSplitVersion)
    return fail(ErrorCode::kUnsupported, fmt::format("a request to split a shard has version {}; this build reads "
                                                     "version {}",
                                                     version, kSplitVersion));
  SplitRequest request;
  request.epoch = in.id<Epoch>();
  request.at = in.u16();
  request.child = in.id<GroupId>();
  request.operation = in.id<shard::OperationId>();
  request.configuration = in.blob();
  if (!in.ok() || !in.at_end()) return fail(ErrorCode::kCorrupt, "a request to split a shard is malformed");
  if (request.at >= kSlots) return fail(ErrorCode::kInvalid, fmt::format("there is no slot {}", request.at));
  if (!request.child) return fail(ErrorCode::kInvalid, "a split needs a group for the new shard");
  return request;
}

std::vector<std::string> begin_command(Epoch epoch, const shard::SlotSet& slots) {
  std::vector<std::string> words = {"mneme.begin", encode_number(epoch.value), {}};
  slots.encode(words.back());
  return words;
}

std::vector<std::string> raise_command(Epoch epoch) { return {"mneme.raise", encode_number(epoch.value)}; }

std::vector<std::string> split_command(const SplitRequest& request) { return {"mneme.divide", request.encode()}; }

std::vector<std::string> touch_command(SessionId session) { return {"mneme.touch", encode_number(session.value)}; }

std::vector<std::string> map_command(const shard::Command& command) {
  std::vector<std::string> words = {"mneme.alter", {}};
  shard::encode(command, words.back());
  return words;
}

std::string encode_answer(const shard::Answer& answer) {
  std::string bytes;
  Writer out(bytes);
  out.id(answer.node);
  out.id(answer.operation);
  out.id(answer.group);
  return bytes;
}

Result<shard::Answer> decode_answer(std::string_view bytes) {
  Reader in(bytes);
  shard::Answer answer;
  answer.node = in.id<NodeId>();
  answer.operation = in.id<shard::OperationId>();
  answer.group = in.id<GroupId>();
  if (!in.ok() || !in.at_end()) return fail(ErrorCode::kCorrupt, "an answer of the shard map is malformed");
  return answer;
}

Result<uint64_t> decode_number(std::string_view bytes) {
  Reader in(bytes);
  const uint64_t number = in.u64();
  if (!in.ok() || !in.at_end()) return fail(ErrorCode::kCorrupt, "a number of 8 bytes was expected");
  return number;
}

Result<shard::SlotSet> decode_slots(std::string_view bytes) {
  Reader in(bytes);
  shard::SlotSet slots = TRY(shard::SlotSet::decode(in));
  if (!in.at_end()) return fail(ErrorCode::kCorrupt, "bytes follow a set of slots");
  return slots;
}

void put_failure(std::string& out, const Error& error) {
  std::string sentence = error.message;
  std::replace_if(
      sentence.begin(), sentence.end(), [](char c) { return c == '\r' || c == '\n'; }, ' ');
  protocol::put_error(out, fmt::format("{} {}", prefix_of(error.code), sentence));
}

}  // namespace mneme::kv
