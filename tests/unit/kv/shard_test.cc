// What a shard's state forbids, and how it changes.
#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;
using shard::SlotSet;

namespace {

// "foo" is in slot 12182, "bar" in 5061.
constexpr uint16_t kHalf = 8192;
const std::string kNotServedReply = error("CLUSTERDOWN Hash slot not served");

std::unique_ptr<StateMachine> machine_of(ShardState shard) {
  return std::make_unique<StateMachine>(nullptr, std::move(shard));
}

Driver lower_half() { return Driver(machine_of({Epoch(3), Epoch(3), SlotSet({0, kHalf})})); }

SplitRequest split_at(uint16_t at, const StateMachine& machine) {
  return {machine.shard().epoch, at, GroupId(9), shard::OperationId(5), "the child's configuration"};
}

// Splits the machine and gives the child.
std::unique_ptr<StateMachine> split(Driver& d, uint16_t at) {
  Collected collected = d.apply(d.batch().add(split_command(split_at(at, d.machine()))).finish());
  REQUIRE(collected.replies == std::vector{kOk});
  REQUIRE(collected.splits.size() == 1);
  return std::move(collected.splits[0].second);
}

}  // namespace

TEST_CASE("a shard that has not begun executes nothing but what belongs to no shard") {
  Driver d(machine_of({}));
  for (const Words& words : std::vector<Words>{{"SET", "a", "1"}, {"GET", "a"}, {"DBSIZE"}, {"FLUSHALL"}, {"NOPE"}})
    CHECK(d.run(words) == kNotServedReply);
  auto refused = d.apply(d.batch().transaction({{"DBSIZE"}, {"INCR", "n"}}).finish());
  CHECK(refused.replies == std::vector(2, kNotServedReply));
  CHECK(refused.outcomes == std::vector(2, Outcome::kRefused));
  CHECK(d.read({"GET", "a"}) == kNotServedReply);
  CHECK(d.read({"DBSIZE"}) == kNotServedReply);
  CHECK(!d.machine().accepts(Epoch(0)));
  CHECK(d.open_session() > 0);
  CHECK(d.machine().table().record_count() == 0);
}

TEST_CASE("the meta group begins without slots, whatever sessions it has, and executes nothing on keys") {
  Driver d(machine_of({}));
  CHECK(d.open_session() > 0);
  CHECK(d.run(begin_command(Epoch(1), SlotSet())) == kOk);
  CHECK(d.machine().shard() == ShardState{Epoch(1), Epoch(1), SlotSet()});
  CHECK(d.run({"GET", "a"}) == kNotServedReply);
  CHECK(d.open_session() > 0);
  CHECK(d.run(raise_command(Epoch(1))) == kOk);
}

TEST_CASE("a shard begins once, with an epoch, and in a group without data") {
  Driver d(machine_of({}));
  CHECK(d.run(raise_command(Epoch(0))) == error("REFUSED the shard is at epoch 0, and epoch 0 was to be raised"));
  CHECK(d.run(begin_command(Epoch(0), SlotSet::all())).starts_with("-INVALID "));
  CHECK(d.run({"mneme.begin", "4", "x"}).starts_with("-ERR "));
  CHECK(!d.machine().shard().begun());
  CHECK(d.run(begin_command(Epoch(4), SlotSet({0, kHalf}))) == kOk);
  CHECK(d.machine().shard() == ShardState{Epoch(4), Epoch(4), SlotSet({0, kHalf})});
  CHECK(d.run(begin_command(Epoch(9), SlotSet::all())) == error("EXISTS the shard has begun, and is at epoch 4"));
  CHECK(d.machine().shard().epoch == Epoch(4));
  CHECK(d.run({"SET", "bar", "1"}) == kOk);

  Driver used(machine_of({}));
  used.open_session();
  CHECK(used.run(begin_command(Epoch(1), SlotSet::all())).starts_with("-REFUSED "));
  CHECK(!used.machine().shard().begun());
}

TEST_CASE("an epoch is raised from exactly the one that is named, and by a configuration, which moves no slots") {
  Driver d = lower_half();
  CHECK(d.run(raise_command(Epoch(2))) == error("REFUSED the shard is at epoch 3, and epoch 2 was to be raised"));
  CHECK(d.run(raise_command(Epoch(3))) == kOk);
  CHECK(d.run(raise_command(Epoch(3))) == error("REFUSED the shard is at epoch 4, and epoch 3 was to be raised"));
  uint64_t digest = d.machine().digest();
  d.machine().configure(d.machine().applied().next(), "voters");
  CHECK(d.machine().shard() == ShardState{Epoch(5), Epoch(3), SlotSet({0, kHalf})});
  CHECK(d.machine().digest() != digest);
  CHECK(d.machine().accepts(Epoch(3)));
  CHECK(!d.machine().accepts(Epoch(2)));

  StateMachine meta;
  meta.configure(LogIndex(1), "voters");
  CHECK(!meta.shard().begun());
}

TEST_CASE("the digest covers epoch, slots and the epoch of the slots") {
  std::vector<ShardState> states = {{},
                                    {Epoch(3), Epoch(3), SlotSet({0, kHalf})},
                                    {Epoch(4), Epoch(3), SlotSet({0, kHalf})},
                                    {Epoch(4), Epoch(4), SlotSet({0, kHalf})},
                                    {Epoch(4), Epoch(4), SlotSet({1, kHalf})}};
  std::map<uint64_t, size_t> digests;
  for (const ShardState& state : states) ++digests[machine_of(state)->digest()];
  CHECK(digests.size() == states.size());
}

TEST_CASE("a batch from before the slots changed is not executed at all, but moves time") {
  Driver d = lower_half();
  d.now = 100;
  uint64_t digest = d.machine().digest();
  for (const Words& words : std::vector<Words>{{"SET", "bar", "1"}, {"DBSIZE"}, {"SESSION", "OPEN"}, {"NOPE"}}) {
    Batch batch(d.now, Epoch(2));
    batch.add(raise_command(Epoch(3))).add(words);
    Collected collected = d.apply(batch.finish());
    CHECK(collected.replies.empty());
    CHECK(collected.stale_commands == 2);
  }
  CHECK(d.machine().log_time_ms() == d.now);
  CHECK(d.machine().table().record_count() == 0);
  CHECK(d.machine().shard().epoch == Epoch(3));
  CHECK(d.machine().digest() != digest);  // time

  Collected nothing = d.apply(Batch(d.now, Epoch(0)).finish());  // a time entry
  CHECK(nothing.stale_commands == 0);
  CHECK(d.apply(Batch(d.now, Epoch(0)).add(raise_command(Epoch(3))).finish()).replies == std::vector{kOk});
  CHECK(d.apply(Batch(d.now, Epoch(3)).add({"SET", "bar", "1"}).finish()).replies == std::vector{kOk});
}

TEST_CASE("a command with a key of another shard's slot is refused, and so is its transaction, and not kept") {
  Driver d = lower_half();
  CHECK(d.run({"SET", "bar", "1"}) == kOk);
  CHECK(d.run({"SET", "foo", "1"}) == kNotServedReply);
  CHECK(d.run({"RENAME", "bar", "foo"}) == kNotServedReply);
  CHECK(d.run({"DEL", "bar", "foo"}) == kNotServedReply);
  CHECK(d.run({"COPY", "foo", "bar"}) == kNotServedReply);
  CHECK(d.run({"DBSIZE"}) == integer(1));
  CHECK(d.run({"GET"}) == error("ERR wrong number of arguments for 'get' command"));
  CHECK(d.read({"GET", "foo"}) == kNotServedReply);
  CHECK(d.read({"MGET", "bar", "foo"}) == kNotServedReply);
  CHECK(d.read({"GET", "bar"}) == bulk("1"));
  CHECK(d.read({"RANGE", "", ""}) == "*2\r\n" + bulk("bar") + bulk("1"));

  auto refused = d.apply(d.batch().transaction({{"INCR", "bar"}, {"INCR", "foo"}, {"NOPE"}}).finish());
  CHECK(refused.replies == std::vector(3, kNotServedReply));
  CHECK(refused.outcomes == std::vector(3, Outcome::kRefused));
  CHECK(d.read({"GET", "bar"}) == bulk("1"));

  uint64_t s = d.open_session();
  CHECK(d.in_session(s, 1, {"INCR", "foo"}) == kNotServedReply);
  CHECK(d.machine().sessions().all().at(s).kept.empty());
  CHECK(d.in_session(s, 1, {"INCR", "bar"}) == integer(2));
}

TEST_CASE("a split gives the child what belongs to its slots, and both refuse what belongs to the other") {
  Driver d;
  std::map<std::string, std::string> values;
  for (int i = 0; i < 3000; ++i) {
    std::string key = "k" + std::to_string(i);
    d.run({"SET", key, values[key] = std::string(static_cast<size_t>(i % 40), 'v')});
    if (i % 3 == 0) d.run({"PEXPIRE", key, std::to_string(1 + i % 50)});
  }
  d.now += 25;
  d.apply(d.batch().finish());
  Driver unsplit(*load(checkpoint_of(d.machine())));
  Driver child(split(d, kHalf));
  unsplit.run({"DBSIZE"});  // sweeps as many

  CHECK(d.machine().shard() == ShardState{Epoch(2), Epoch(2), SlotSet({0, kHalf})});
  CHECK(child.machine().shard() == ShardState{Epoch(2), Epoch(2), SlotSet({kHalf, kSlots})});
  CHECK(child.machine().applied() == LogIndex(1));
  CHECK(child.machine().log_time_ms() == d.now);
  CHECK(child.machine().configuration() == "the child's configuration");
  CHECK(child.machine().bytes_used() + d.machine().bytes_used() == unsplit.machine().bytes_used());
  CHECK(child.machine().table().digest() + d.machine().table().digest() == unsplit.machine().table().digest());
  CHECK(child.machine().table().record_count() > 1000);
  for (const auto& [key, value] : values) {
    Driver& owner = slot_of(key) < kHalf ? d : child;
    Driver& other = slot_of(key) < kHalf ? child : d;
    for (const Words& words : std::vector<Words>{{"GET", key}, {"PTTL", key}}) {
      CHECK(owner.read(words) == unsplit.read(words));
      CHECK(other.read(words) == kNotServedReply);
    }
  }
  // They go on: growing, sweeping, shrinking.
  for (int i = 0; i < 6000; ++i) {
    std::string key = "k" + std::to_string(i);
    Driver& owner = slot_of(key) < kHalf ? d : child;
    CHECK(owner.run({"APPEND", key, "x"}) == unsplit.run({"APPEND", key, "x"}));
  }
  for (Driver* machine : {&d, &child, &unsplit}) {
    machine->now += 50;
    machine->run({"DBSIZE"});
    while (machine->machine().sweep_pending()) machine->run({"DBSIZE"});
  }
  CHECK(child.machine().table().digest() + d.machine().table().digest() == unsplit.machine().table().digest());
  for (Driver* machine : {&d, &child}) {
    auto loaded = load(checkpoint_of(machine->machine()));
    REQUIRE(loaded);
    CHECK((*loaded)->digest() == machine->machine().digest());
    CHECK((*loaded)->shard() == machine->machine().shard());
    CHECK((*loaded)->bytes_used() == machine->machine().bytes_used());
    CHECK(machine->run({"FLUSHALL"}) == kOk);
    CHECK(machine->machine().table().bytes_used() == 0);
  }
}

TEST_CASE("whoever asks again after a split is answered by the half that has the slot, and nothing is done twice") {
  Driver d;
  uint64_t s = d.open_session();
  CHECK(d.in_session(s, 1, {"INCR", "foo"}) == integer(1));
  CHECK(d.in_session(s, 1, {"INCR", "bar"}) == integer(1));
  CHECK(d.in_session(s, 2, {"DBSIZE"}) == integer(2));
  CHECK(d.in_session(s, 3, {"INCR", "foo"}) == integer(2));
  Driver child(split(d, kHalf));
  CHECK(d.machine().sessions().all().at(s).kept.size() == 2);
  CHECK(child.machine().sessions().all().at(s).kept.size() == 3);
  CHECK(d.in_session(s, 1, {"INCR", "bar"}) == integer(1));
  CHECK(d.in_session(s, 1, {"INCR", "foo"}) == kNotServedReply);
  CHECK(child.in_session(s, 1, {"INCR", "foo"}) == integer(1));
  CHECK(child.in_session(s, 3, {"INCR", "foo"}) == integer(2));
  CHECK(child.in_session(s, 1, {"INCR", "bar"}) == kNotServedReply);
  for (Driver* machine : {&d, &child}) CHECK(machine->in_session(s, 2, {"DBSIZE"}) == integer(2));
  CHECK(child.read({"GET", "foo"}) == bulk("2"));
  child.in_session(s, 4, {"INCR", "foo"}, 3);
  CHECK(child.machine().sessions().all().at(s).kept.size() == 1);
  CHECK(child.machine().sessions().bytes_used() == kSessionBytes + child.machine().sessions().all().at(s).kept_bytes);
  for (Driver* machine : {&d, &child}) {
    auto loaded = load(checkpoint_of(machine->machine()));
    REQUIRE(loaded);
    CHECK((*loaded)->digest() == machine->machine().digest());
  }
}

TEST_CASE("a split that comes too late, divides nothing or is malformed changes nothing") {
  Driver d = lower_half();
  d.run({"SET", "bar", "1"});
  uint64_t digest = d.machine().digest();
  SplitRequest request = split_at(100, d.machine());
  auto refused = [&](const SplitRequest& r) {
    Collected collected = d.apply(d.batch().add(split_command(r)).finish());
    CHECK(collected.splits.empty());
    return collected.replies.at(0);
  };
  SplitRequest late = request;
  late.epoch = Epoch(2);
  CHECK(refused(late) == error("REFUSED the shard is at epoch 3, and was to be split at epoch 2"));
  for (uint16_t at : {uint16_t(0), kHalf, uint16_t(16383)}) {
    SplitRequest bad = request;
    bad.at = at;
    CHECK(refused(bad) ==
          error("INVALID slot " + std::to_string(at) + " does not divide the slots 0-8191 of the shard"));
  }
  SplitRequest beyond = request;
  beyond.at = 40000;
  CHECK(refused(beyond) == error("INVALID there is no slot 40000"));
  SplitRequest nobody = request;
  nobody.child = GroupId();
  CHECK(refused(nobody).starts_with("-INVALID "));
  std::string bytes = request.encode();
  CHECK(SplitRequest::decode(bytes).value() == request);
  for (size_t size = 0; size < bytes.size(); ++size) CHECK(!SplitRequest::decode(bytes.substr(0, size)));
  CHECK(!SplitRequest::decode(bytes + "x"));
  CHECK(SplitRequest::decode("\2" + bytes.substr(1)).error().code == ErrorCode::kUnsupported);
  CHECK(d.machine().digest() == digest);

  StateMachine unbegun;
  Collected collected;
  SplitRequest none = request;
  none.epoch = Epoch(0);
  REQUIRE(unbegun.apply(LogIndex(1), Batch(0).add(split_command(none)).finish(), collected));
  CHECK(collected.replies.at(0).starts_with("-REFUSED "));
}

TEST_CASE("a split is made once by a request that is sent twice, and the rest of its batch sees it") {
  Driver d;
  uint64_t s = d.open_session();
  CommandMeta meta{.session = SessionId(s), .sequence = 1};
  Words words = split_command(split_at(kHalf, d.machine()));
  Collected first = d.apply(d.batch().add({"SET", "foo", "1"}).add(words, meta).add({"GET", "foo"}).finish());
  CHECK(first.replies == std::vector{kOk, kOk, kNotServedReply});
  REQUIRE(first.splits.size() == 1);
  CHECK(first.splits[0].first.operation == shard::OperationId(5));
  CHECK(Driver(std::move(first.splits[0].second)).read({"GET", "foo"}) == bulk("1"));
  Collected again = d.apply(d.batch().add(words, meta).add(words).finish());
  CHECK(again.outcomes == std::vector{Outcome::kRepeated, Outcome::kExecuted});
  CHECK(again.replies == std::vector{kOk, error("REFUSED the shard is at epoch 2, and was to be split at epoch 1")});
  CHECK(again.splits.empty());
}

TEST_CASE("a checkpoint under way while the shard is split still has the state of when it began") {
  Driver d;
  uint64_t s = d.open_session();
  for (int i = 1000; i < 9000; ++i) d.run({"SET", "k" + std::to_string(i), std::string(50, 'x')});
  for (uint64_t n = 1; n <= 20; ++n) d.in_session(s, n, {"INCR", "k" + std::to_string(n)});
  std::string still = checkpoint_of(d.machine());
  CheckpointWriter writer(d.machine(), Term(3));
  std::string under_way = writer.next_chunk(200'000);
  Driver child(split(d, kHalf));
  CHECK(writer.held_bytes() > 100'000);
  CHECK(child.run({"FLUSHALL"}) == kOk);
  while (!writer.done()) under_way += writer.next_chunk(100'000);
  CHECK((under_way == still));
  CHECK(load(checkpoint_of(d.machine())));
}

TEST_CASE("the middle slot divides a shard by bytes, and by slots where there are none") {
  auto middle = [](Driver& d) { return d.machine().middle_slot(); };
  Driver empty;
  CHECK(middle(empty) == kHalf);
  Driver gaps(machine_of({Epoch(1), Epoch(1), [] {
                            SlotSet slots({100, 102});
                            slots.add({5000, 5002});
                            return slots;
                          }()}));
  CHECK(middle(gaps) == 5000);
  Driver one(machine_of({Epoch(1), Epoch(1), SlotSet({7, 8})}));
  CHECK(!middle(one));
  Driver none(machine_of({}));
  CHECK(!middle(none));

  Driver d;
  SplitMix random(1);
  for (int i = 0; i < 5000; ++i) {
    std::string key = "k" + std::to_string(i);
    // The upper half is four times as heavy.
    d.run({"SET", key, std::string(random.below(slot_of(key) < kHalf ? 100 : 1000), 'x')});
  }
  uint16_t at = middle(d).value();
  CHECK(at > kHalf);
  Driver child(split(d, at));
  const size_t lower = d.machine().table().bytes_used();
  const size_t upper = child.machine().table().bytes_used();
  CHECK(std::max(lower, upper) - std::min(lower, upper) < (lower + upper) / 50);

  Driver heavy;  // one slot is more than all others: it goes with the smaller rest
  heavy.run({"SET", "foo", std::string(100'000, 'x')});
  CHECK((middle(heavy) == 12182 || middle(heavy) == 12183));
}
