#include "sim/scenarios/kv_library_client.h"

#include <fmt/format.h>

#include "core/fiber/scope.h"

namespace mneme::sim {

namespace {
constexpr Duration kPauseAfterFailure = 30ms;
}  // namespace

Result<void> KvLibraryClient::run(Env& env) {
  client::Options options{.seeds = nodes_(),
                          .sessions = plan_.style == ClientStyle::kLibrarySession,
                          .timeout = timeout_ * plan_.patience,
                          .connect_timeout = timeout_,
                          .silence = timeout_,
                          .max_requests = plan_.max_requests,
                          .observer = this};
  return client::with_client(env, std::move(options), [&](client::Client& client) {
    while (!finished()) {
      const PlannedOp& op = plan_.operations[next_];
      env.clock.sleep_for(env.scheduler, Duration(op.think));
      const size_t first = next_++;
      if (plan_.pipelines) next_ = std::min(first + op.burst, plan_.operations.size());
      perform_together(env, client, first, next_ - first);
    }
  });
}

void KvLibraryClient::perform_together(Env& env, client::Client& client, size_t first, size_t count) {
  if (count == 1) return perform(env, client, plan_.operations[first]);
  auto ended = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
    for (size_t i = first; i < first + count; ++i)
      scope.spawn("caller", [&, i] { perform(env, client, plan_.operations[i]); });
  });
  CHECK(ended.has_value());
}

void KvLibraryClient::perform(Env& env, client::Client& client, const PlannedOp& op) {
  const size_t record = scribe_.begin(op);
  scribe_.record(record).repeats = op.kind == OpKind::kGet;
  const std::vector<std::string> words = scribe_.record(record).args;  // records move when others are added
  const std::vector<std::string_view> args(words.begin(), words.end());
  client::Answer answer = client.call(args, {.tag = record + 1});
  const bool done = answer.outcome == client::Outcome::kDone;
  conclude(record, std::move(answer));
  if (!done) env.clock.sleep_for(env.scheduler, kPauseAfterFailure);
}

void KvLibraryClient::conclude(size_t record, client::Answer answer) {
  switch (answer.outcome) {
    case client::Outcome::kDone: {
      // The one reply of this workload that refuses a command for what it is before any log has it.
      const bool refused = answer.raw.starts_with("-OOM");
      return scribe_.finish(record, refused ? ClientOutcome::kFailed : ClientOutcome::kOk, std::move(answer.raw));
    }
    case client::Outcome::kNotDone:
      return scribe_.finish(record, ClientOutcome::kFailed, fmt::format("-{}\r\n", answer.why));
    case client::Outcome::kUnknown:
      return scribe_.finish(record, ClientOutcome::kUnknown, fmt::format("-{}\r\n", answer.why));
  }
}

void KvLibraryClient::sent(uint64_t tag, uint64_t stream, uint64_t nth) {
  if (tag != 0) scribe_.sent(tag - 1, stream, nth);
}

}  // namespace mneme::sim
