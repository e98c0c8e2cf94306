#include "sim/scenarios/kv_transfer_client.h"

#include <fmt/format.h>

#include <charconv>

#include "core/fiber/scope.h"
#include "core/protocol/request.h"
#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::sim {

namespace {

constexpr uint32_t kBanks = 4;
constexpr uint32_t kAccounts = 3;  // of each

std::string account(uint32_t bank, uint32_t nth) { return fmt::format("{{bank{}}}{}", bank, nth % kAccounts); }

// All that is asked on a connection of its own, until every command has its reply.
Result<void> exchange(Env& env, const env::Address& node, std::string_view bytes, size_t commands) {
  auto stream = TRY(env.network.connect(node));
  TRY(stream->write(as_bytes(bytes)));
  protocol::ReplyParser parser;
  std::string buffer;
  while (commands > 0) {
    auto step = parser.next(buffer);
    if (step.progress == protocol::Progress::kError) return std::unexpected(std::move(step.error));
    if (step.progress == protocol::Progress::kDone) {
      buffer.erase(0, step.length);
      --commands;
      continue;
    }
    uint8_t chunk[1024];
    const size_t got = TRY(stream->read(chunk));
    if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection");
    buffer.append(reinterpret_cast<char*>(chunk), got);
  }
  return {};
}

}  // namespace

Result<int64_t> total_of(const protocol::Reply& reply) {
  int64_t total = 0;
  for (const protocol::Reply& held : reply.elements) {
    if (held.kind == protocol::Reply::Kind::kNull) continue;
    int64_t amount = 0;
    const char* end = held.text.data() + held.text.size();
    if (std::from_chars(held.text.data(), end, amount) != std::from_chars_result{end, std::errc()})
      return fail(ErrorCode::kInvalid, fmt::format("an account holds '{}'", held.text));
    total += amount;
  }
  if (reply.elements.size() != kAccounts)
    return fail(ErrorCode::kInvalid,
                fmt::format("{} accounts were answered with {}", kAccounts, reply.elements.size()));
  return total;
}

Result<void> KvTransferClient::run(Env& env) {
  client::Options options{.seeds = nodes_(),
                          .timeout = timeout_ * plan_.patience,
                          .connect_timeout = timeout_,
                          .silence = timeout_,
                          .max_requests = plan_.max_requests};
  return client::with_client(env, std::move(options), [&](client::Client& client) {
    while (next_ < plan_.operations.size()) {
      const PlannedOp& op = plan_.operations[next_++];
      env.clock.sleep_for(env.scheduler, Duration(op.think));
      if (op.kind == OpKind::kGet)
        look(client, op.key % kBanks);
      else
        transfer(env, op);
    }
    for (uint32_t bank = 0; bank < kBanks; ++bank) look(client, bank);
    looked_ = true;
  });
}

void KvTransferClient::transfer(Env& env, const PlannedOp& op) {
  const uint32_t bank = op.key % kBanks;
  const int64_t amount = 1 + op.nth % 9;
  std::string bytes;
  protocol::put_command(bytes, {"MULTI"});
  protocol::put_command(bytes, {"INCRBY", account(bank, op.nth), std::to_string(-amount)});
  protocol::put_command(bytes, {"INCRBY", account(bank, op.nth + 1 + op.nth / kAccounts % 2), std::to_string(amount)});
  protocol::put_command(bytes, {"EXEC"});
  const std::vector<env::Address> nodes = nodes_();
  const env::Address& node = nodes[Fate::scale(world_.choose(Choice::kClient, number_, ++transfers_, 2), nodes.size())];
  // What became of it does not matter.
  (void)fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + timeout_,
                             [&] { return exchange(env, node, bytes, 4); });
}

void KvTransferClient::look(client::Client& client, uint32_t bank) {
  std::vector<std::string> words{"MGET"};
  for (uint32_t nth = 0; nth < kAccounts; ++nth) words.push_back(account(bank, nth));
  const client::Answer answer = client.call(std::vector<std::string_view>(words.begin(), words.end()));
  if (answer.outcome != client::Outcome::kDone) return;
  auto reply = answer.reply();
  auto total = reply ? total_of(*reply) : Result<int64_t>(std::unexpected(reply.error()));
  world_.record(0, "client", fmt::format("c{} bank {} -> {}", number_, bank, total ? *total : -1));
  if (total && *total == 0) return;
  violated_(fmt::format("c{} was told that the accounts of bank {} hold {}, and all transfers together leave 0",
                        number_, bank, total ? std::to_string(*total) : total.error().message));
}

}  // namespace mneme::sim
