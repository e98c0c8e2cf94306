// What the conductor tells the shard map, and how.
#include <fmt/format.h>

#include <algorithm>

#include "core/kv/internal.h"
#include "core/node/conductor.h"
#include "core/protocol/reply_reader.h"

namespace mneme::node {

namespace {

constexpr Duration kSizeInterval = 10s;   // sizes and loads are not told more often
constexpr Duration kRepeatInterval = 1s;  // what the map does not show yet is told again
constexpr uint64_t kNoticeableBytes = 1 << 20;

shard::Configuration shard_configuration(const raft::Configuration& raft) {
  shard::Configuration out;
  auto role = [&](ReplicaId id) {
    auto in = [&](const std::vector<ReplicaId>& ids) { return std::binary_search(ids.begin(), ids.end(), id); };
    if (in(raft.learners)) return shard::Role::kLearner;
    if (!raft.joint() || (in(raft.voters) && in(raft.outgoing))) return shard::Role::kVoter;
    return in(raft.voters) ? shard::Role::kIncoming : shard::Role::kOutgoing;
  };
  for (ReplicaId id : raft.members()) out.push_back({{id.node(), id.generation()}, role(id)});
  std::sort(out.begin(), out.end(),
            [](const shard::Member& a, const shard::Member& b) { return a.replica.node < b.replica.node; });
  return out;
}

// What a command to the map was answered; what it was refused with is kRefused, but before the map is founded, which
// will be over soon: kUnavailable.
Result<shard::Answer> answer_of(std::string_view reply) {
  const auto parsed = protocol::parse_reply(reply);
  if (!parsed) return std::unexpected(parsed.error());
  if (parsed->kind == protocol::Reply::Kind::kError) {
    const size_t blank = parsed->text.find(' ');
    const bool too_early = parsed->text.starts_with("UNAVAILABLE ");
    return fail(too_early ? ErrorCode::kUnavailable : ErrorCode::kRefused,
                parsed->text.substr(blank == std::string::npos ? 0 : blank + 1));
  }
  return kv::decode_answer(parsed->text);
}

bool differs(uint64_t a, uint64_t b, uint64_t least) {
  const uint64_t difference = a > b ? a - b : b - a;
  return difference > least && difference > std::max(a, b) / 8;
}

}  // namespace

std::optional<shard::Report> Conductor::report_of(const replica::Replica& replica) {
  const kv::StateMachine& machine = replica.machine();
  const raft::Raft& raft = replica.raft();
  // The configuration in force, which is told only once it is committed and applied.
  if (raft.configuration_index() > machine.applied() || !machine.shard().begun()) return std::nullopt;
  Told& told = told_[replica.group()];
  if (told.term != raft.term()) told = {.term = raft.term(), .at = Instant(), .measured_at = env_.clock.now()};
  const Duration since = env_.clock.now() - told.measured_at;
  if (since >= kSizeInterval) {
    const uint64_t entries = replica.applied_entries() - std::min(told.applied, replica.applied_entries());
    told.writes_per_second = entries * 1000 / static_cast<uint64_t>(since / 1ms);
    told.applied = replica.applied_entries();
    told.measured_at = env_.clock.now();
  }
  return shard::Report{.group = replica.group(),
                       .epoch = machine.shard().epoch,
                       .configuration = shard_configuration(raft.configuration()),
                       .next_generation = raft.configuration().generation + 1,
                       .slots = machine.shard().slots,
                       .term = raft.term(),
                       .leader = identity_.node,
                       .number = told.number + 1,
                       .bytes = machine.bytes_used(),
                       .writes_per_second = told.writes_per_second};
}

bool Conductor::worth_telling(const shard::Report& report, const shard::Shard& shard, const Told& told) const {
  const shard::Report& known = shard.last;
  const Duration since = env_.clock.now() - told.at;
  if (report.epoch != known.epoch || report.term != known.term || report.leader != known.leader)
    return told.number == 0 || since >= kRepeatInterval;
  return since >= kSizeInterval && (differs(report.bytes, known.bytes, kNoticeableBytes) ||
                                    differs(report.writes_per_second, known.writes_per_second, 100));
}

// A group that rests, and that the map knows as it is, until it is measured again. Of the thousands that a node may
// have nearly all are so nearly always.
bool Conductor::has_no_news(const replica::Replica& replica, const shard::Shard& shard) const {
  const raft::Raft& raft = replica.raft();
  if (!raft.resting() || shard.pending()) return false;
  const shard::Report& known = shard.last;
  if (known.epoch != replica.machine().shard().epoch || known.term != raft.term() || known.leader != identity_.node)
    return false;
  const auto told = told_.find(replica.group());
  return told != told_.end() && told->second.term == raft.term() &&
         env_.clock.now() < told->second.measured_at + kSizeInterval;
}

void Conductor::add_news(replica::Replica& replica, const shard::Shard& shard, std::vector<shard::Command>& news) {
  if (has_no_news(replica, shard)) return;
  auto report = report_of(replica);
  if (!report) return;
  Told& told = told_[replica.group()];
  auto say = [&](shard::Command command) {
    ++told.number;
    told.at = env_.clock.now();
    news.push_back(std::move(command));
  };
  const shard::Operation* operation = shard.pending();
  if (operation && shows_step(shard, *report)) {
    // With one that is lost it goes on to the next step, which is not made, and where the operation can be given up.
    if (operation->step == shard::Step::kAddLearner && !is_ready(replica, operation->target) &&
        peers_.silent_for(operation->target.node) < config_.lost_after)
      return;
    return say(shard::AdvanceOperation{operation->id, operation->step, std::move(*report)});
  }
  // Its epoch has come and gone.
  if (operation && report->epoch > operation->epoch && !shard::is_joint(report->configuration) &&
      !replica.has_change_pending())
    return say(shard::AbandonOperation{operation->id, operation->step, std::move(*report)});
  if (worth_telling(*report, shard, told)) say(std::move(*report));
}

std::vector<shard::Command> Conductor::news(bool& busy) {
  std::vector<shard::Command> news;
  const auto map = map_.shared();
  if (const shard::Node* own = map->node(identity_.node); own && own->state == shard::NodeState::kJoining)
    news.push_back(shard::NodeUp{identity_.node, identity_.incarnation});
  for (const auto& [group, replica] : groups_.all()) {
    if (news.size() >= kMaxToldAtOnce) break;
    if (replica->raft().role() != raft::Role::kLeader) continue;
    const shard::Shard* shard = map->shard(group);
    busy |= !shard || is_busy(*replica, *shard);
    if (shard && replica->leads()) add_news(*replica, *shard, news);
  }
  busy |= !news.empty();
  return news;
}

Result<void> Conductor::keep_telling() {
  for (;;) {
    const uint64_t version = map_.version();
    bool busy = false;
    if (const auto news = this->news(busy); !news.empty()) tell_and_log(news, 2 * config_.election_timeout);
    wait(busy, version);
  }
}

void Conductor::tell_and_log(const std::vector<shard::Command>& commands, Duration patience) {
  auto told = tell(commands, env_.clock.now() + patience);
  if (!told) env::log(env_.trace, env::Level::kDebug, "shard", "not told: {}", told.error().message);
  for (size_t i = 0; told && i < told->size(); ++i)
    if (!(*told)[i]) env::log(env_.trace, env::Level::kDebug, "shard", "refused: {}", (*told)[i].error().message);
}

Result<std::vector<Result<shard::Answer>>> Conductor::tell(const std::vector<shard::Command>& commands,
                                                           Instant deadline) {
  std::vector<std::vector<std::string>> words;
  replica::CommandList list;
  for (const shard::Command& command : commands) words.push_back(kv::map_command(command));
  for (const auto& one : words) {
    const std::vector<std::string_view> args(one.begin(), one.end());
    list.add(*kv::find_command(one[0]), args);
  }
  replica::ReplySet replies;
  std::string reason;
  const replica::Outcome outcome = router_.execute_in(shard::kMetaGroup, list, deadline, replies, reason);
  if (outcome == replica::Outcome::kNotDone)
    return fail(ErrorCode::kUnavailable,
                fmt::format("the meta group cannot be reached, and nothing was changed: {}", reason));
  if (outcome != replica::Outcome::kDone)
    return fail(ErrorCode::kTimeout, fmt::format("it is not known whether the change was made: {}", reason));
  std::vector<Result<shard::Answer>> answers;
  for (size_t i = 0; i < replies.size(); ++i) answers.push_back(answer_of(replies[i]));
  return answers;
}

}  // namespace mneme::node
