// A store that is split again and again, against one that never is: every key must have the same history in both.
//
// Each shard has two replicas, which must agree. Clients use sessions that no shard was told of, repeat themselves, are
// routed to the wrong shard or with the epoch of before a split, and come back after their session was closed.
#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {

struct Request {
  std::vector<Words> commands;  // several: a transaction
  uint16_t slot = 0;
};

struct Sent {
  uint64_t sequence;
  Request request;
  std::vector<std::string> replies;
};

struct Client {
  uint64_t session = 0;
  uint64_t sequence = 0;
  uint64_t ack = 0;
  std::vector<Sent> sent;
};

std::string payload_of(const Request& request, int64_t now, Epoch epoch, CommandMeta meta) {
  Batch batch(now, epoch);
  if (request.commands.size() == 1) {
    batch.add(request.commands[0], meta);
  } else {
    batch.transaction(request.commands, meta);
  }
  return batch.finish();
}

struct Shard {
  Driver one;
  Driver other;

  const StateMachine& machine() { return one.machine(); }
  bool owns(uint16_t slot) { return machine().shard().slots.contains(slot); }
  Collected apply(const std::string& payload) {
    Collected collected = one.apply(payload);
    Collected again = other.apply(payload);
    REQUIRE(collected.replies == again.replies);
    REQUIRE(collected.outcomes == again.outcomes);
    REQUIRE(collected.stale_commands == again.stale_commands);
    REQUIRE(one.machine().digest() == other.machine().digest());
    for (auto& split : again.splits) collected.splits.push_back(std::move(split));
    return collected;
  }
  void configure(std::string_view configuration) {
    for (Driver* d : {&one, &other}) d->machine().configure(d->machine().applied().next(), configuration);
  }
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed) { shards_.emplace_back(); }

  void step() {
    now_ += static_cast<int64_t>(random_.below(10));
    switch (random_.below(40)) {
      case 0: return split();
      case 1: return check_keys();
      case 2: return check_checkpoints();
      case 3: return close_session();
      case 4: return any_shard().configure("configuration " + std::to_string(random_.below(5)));
      case 5: {
        Shard& shard = any_shard();
        Words raise = raise_command(Epoch(random_.below(shard.machine().shard().epoch.value + 2)));
        shard.apply(Batch(now_, Epoch(0)).add(raise).finish());
        return;
      }
      case 6:
      case 7: return misroute();
      case 8: return come_back();
      case 9:
      case 10:
      case 11: return ask_again();
      default: return ask();
    }
  }
  size_t shards() const { return shards_.size(); }
  size_t expired() const { return expired_; }
  size_t came_back() const { return came_back_; }

 private:
  Shard& any_shard() { return shards_[random_.below(shards_.size())]; }
  Shard& owner(uint16_t slot) {
    for (Shard& shard : shards_) {
      if (shard.owns(slot)) return shard;
    }
    FAIL("slot " << slot << " has no owner");
    return shards_[0];
  }
  Client& any_client() {
    while (clients_.size() < 4) clients_.push_back({.session = sessions_ += 1 + random_.below(3)});
    return clients_[random_.below(clients_.size())];
  }

  Words command(const std::string& key) {
    const std::string value(random_.below(20), static_cast<char>('a' + random_.below(26)));
    switch (random_.below(8)) {
      case 0: return {"SET", key, value};
      case 1: return {"SET", key, value, "PX", std::to_string(1 + random_.below(300))};
      case 2: return {"APPEND", key, value};
      case 3: return {"DEL", key};
      case 4: return {"PEXPIRE", key, std::to_string(random_.below(200))};
      case 5: return {"GETSET", key, std::to_string(random_.below(100))};
      default: return {"INCR", key};
    }
  }
  Request request() {
    const std::string tag = "{k" + std::to_string(random_.below(kKeys)) + "}";
    Request request{{}, slot_of(tag)};
    for (uint64_t n = random_.one_in(5) ? 1 + random_.below(3) : 1; n > 0; --n)
      request.commands.push_back(command(tag + std::string(random_.below(2), 'x')));
    return request;
  }

  Collected send(Shard& shard, const Request& request, CommandMeta meta) {
    return shard.apply(payload_of(request, now_, shard.machine().shard().slots_epoch, meta));
  }

  void ask() {
    Client& client = any_client();
    Request wanted = request();
    Shard& shard = owner(wanted.slot);
    const bool in_session = !random_.one_in(3);
    CommandMeta meta;
    if (in_session) {
      if (++client.sequence > 10) client.ack = client.sequence - 10;
      meta = {.session = SessionId(client.session), .sequence = client.sequence, .ack = client.ack};
    }
    const SessionTable& sessions = shard.machine().sessions();
    const bool refused =
        in_session && !sessions.all().contains(client.session) && client.session <= sessions.forgotten().value;
    Collected collected = send(shard, wanted, meta);
    if (refused) {
      ++expired_;
      REQUIRE(collected.outcomes == std::vector(wanted.commands.size(), Outcome::kRefused));
      REQUIRE(collected.replies[0].starts_with("-EXPIRED"));
      return retire(client);
    }
    REQUIRE(collected.outcomes == std::vector(wanted.commands.size(), Outcome::kExecuted));
    REQUIRE(collected.replies == whole_.apply(payload_of(wanted, now_, Epoch(1), {})).replies);
    if (in_session) client.sent.push_back({client.sequence, wanted, collected.replies});
  }

  void ask_again() {
    Client& client = any_client();
    if (client.sent.empty()) return;
    const Sent& sent = client.sent[random_.below(client.sent.size())];
    if (sent.sequence <= client.ack) return;
    CommandMeta meta{.session = SessionId(client.session), .sequence = sent.sequence, .ack = client.ack};
    Collected collected = send(owner(sent.request.slot), sent.request, meta);
    REQUIRE(collected.outcomes == std::vector(sent.request.commands.size(), Outcome::kRepeated));
    REQUIRE(collected.replies == sent.replies);
  }

  // Of a session that may be closed here, there, and nowhere.
  void come_back() {
    if (retired_.empty()) return;
    const Client& client = retired_[random_.below(retired_.size())];
    if (client.sent.empty()) return;
    const Sent& sent = client.sent[random_.below(client.sent.size())];
    CommandMeta meta{.session = SessionId(client.session), .sequence = sent.sequence};
    Collected collected = send(owner(sent.request.slot), sent.request, meta);
    ++came_back_;
    for (size_t i = 0; i < collected.replies.size(); ++i) {
      REQUIRE(collected.outcomes[i] != Outcome::kExecuted);
      if (collected.outcomes[i] == Outcome::kRepeated) REQUIRE(collected.replies[i] == sent.replies[i]);
    }
  }

  void misroute() {
    Request wanted = request();
    Shard& shard = any_shard();
    const uint64_t records = shard.machine().table().record_count();
    const Epoch fresh = shard.machine().shard().slots_epoch;
    CommandMeta meta{.session = SessionId(any_client().session), .sequence = UINT64_MAX};
    if (random_.one_in(2)) {
      Collected collected = shard.apply(payload_of(wanted, now_, Epoch(random_.below(fresh.value)), meta));
      REQUIRE(collected.replies.empty());
      REQUIRE(collected.stale_commands == wanted.commands.size());
    } else if (!shard.owns(wanted.slot)) {
      Collected collected = send(shard, wanted, meta);
      REQUIRE(collected.replies == std::vector(wanted.commands.size(), error("CLUSTERDOWN Hash slot not served")));
    }
    REQUIRE(shard.machine().table().record_count() <= records);  // time may have removed some
  }

  void retire(Client& client) {
    retired_.push_back(std::move(client));
    clients_.erase(clients_.begin() + (&client - clients_.data()));
  }

  void close_session() {
    Client& client = any_client();
    any_shard().apply(
        Batch(now_, Epoch(UINT64_MAX)).add({"SESSION", "CLOSE", std::to_string(client.session)}).finish());
    retire(client);
  }

  void split() {
    if (shards_.size() > 12) return;
    Shard& shard = any_shard();
    const ShardState& state = shard.machine().shard();
    if (state.slots.size() < 2) return;
    const uint16_t at = random_.one_in(2) ? shard.machine().middle_slot().value()
                                          : state.slots.nth(1 + random_.below(state.slots.size() - 1));
    SplitRequest request{state.epoch, at, GroupId(++groups_), shard::OperationId(groups_), "first configuration"};
    Collected collected = shard.apply(Batch(now_, state.epoch).add(split_command(request)).finish());
    REQUIRE(collected.splits.size() == 2);
    REQUIRE(collected.splits[0].first == request);
    auto one = std::move(collected.splits[0].second);
    auto other = std::move(collected.splits[1].second);
    REQUIRE(one->digest() == other->digest());
    shards_.push_back({Driver(std::move(one)), Driver(std::move(other))});
  }

  void check_keys() {
    whole_.apply(Batch(now_).finish());
    for (Shard& shard : shards_) shard.apply(Batch(now_, Epoch(0)).finish());
    for (uint64_t n = 0; n < kKeys; ++n) {
      for (const char* end : {"", "x"}) {
        const std::string key = "{k" + std::to_string(n) + "}" + end;
        Driver& d = owner(slot_of(key)).one;
        for (const char* read : {"GET", "PTTL"}) REQUIRE(d.read({read, key}) == whole_.read({read, key}));
      }
    }
    size_t keys = 0;
    for (Shard& shard : shards_) keys += shard.machine().table().size();
    REQUIRE(keys == whole_.machine().table().size());
  }

  void check_checkpoints() {
    Shard& shard = any_shard();
    const std::string stream = checkpoint_of(shard.one.machine());
    REQUIRE((stream == checkpoint_of(shard.other.machine())));
    auto loaded = load(stream);
    REQUIRE(loaded);
    REQUIRE((*loaded)->digest() == shard.machine().digest());
    REQUIRE((*loaded)->bytes_used() == shard.machine().bytes_used());
    REQUIRE((*loaded)->shard() == shard.machine().shard());
    shard.one = Driver(*std::move(loaded));  // and goes on from there
  }

  static constexpr uint64_t kKeys = 150;
  SplitMix random_;
  int64_t now_ = 1'000'000;
  Driver whole_;
  std::vector<Shard> shards_;
  std::vector<Client> clients_;
  std::vector<Client> retired_;
  uint64_t sessions_ = 0;
  uint64_t groups_ = 2;
  size_t expired_ = 0;
  size_t came_back_ = 0;
};

}  // namespace

TEST_CASE("shards that are split answer for every key as a store that is not, and execute nothing twice") {
  size_t expired = 0;
  size_t came_back = 0;
  for (uint64_t seed = 1; seed <= 15; ++seed) {
    INFO("seed " << seed);
    World world(seed);
    for (int i = 0; i < 3000; ++i) world.step();
    CHECK(world.shards() > 5);
    expired += world.expired();
    came_back += world.came_back();
  }
  CHECK(expired > 0);
  CHECK(came_back > 100);
}
