// Configurations: what may be asked for, what may follow what, and bytes that somebody else may have written.
#include "core/raft/configuration.h"

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/raft/text.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::raft;

namespace {

ReplicaId id(uint64_t node, uint32_t generation = 0) { return {ReplicaId(NodeId(node), generation)}; }

const Configuration kThree{.voters = {id(1), id(2), id(3)}};
const Configuration kWithLearner{.voters = {id(1), id(2), id(3)}, .learners = {id(4, 1)}, .generation = 1};

std::string after(const Configuration& now, const Change& change) {
  auto next = after_change(now, change);
  if (next) CHECK(illegal_step(now, *next) == std::nullopt);
  return next ? text_of(*next) : "";
}

}  // namespace

TEST_CASE("a child begins on its parent's nodes, whatever generations they have come to", "[raft]") {
  const Configuration parent{.voters = {id(2, 1), id(3, 1), id(1, 2)}, .learners = {id(4, 3)}, .generation = 3};
  const Configuration child = first_of_child(parent);
  CHECK(text_of(child) == "voters 1.1,2.1,3.1 learners 4.1");
  CHECK(child.generation == 1);
  CHECK(decode_configuration(encode(child)) == child);
}

TEST_CASE("changes lead along the one path, and nowhere else", "[raft]") {
  CHECK(after(kThree, {.add = {id(4, 1)}}) == "voters 1,2,3 learners 4.1");
  CHECK(after(kWithLearner, {.promote = {id(4, 1)}}) == "voters 1,2,3,4.1 outgoing 1,2,3");
  CHECK(after(kWithLearner, {.promote = {id(4, 1)}, .remove = {id(2)}}) == "voters 1,3,4.1 outgoing 1,2,3");
  CHECK(after(kWithLearner, {.remove = {id(4, 1)}}) == "voters 1,2,3");
  CHECK(after(kWithLearner, {.remove = {id(1)}}) == "voters 2,3 outgoing 1,2,3 learners 4.1");
  const Configuration joint = after_change(kWithLearner, {.promote = {id(4, 1)}}).value();
  CHECK(text_of(leave_joint(joint)) == "voters 1,2,3,4.1");
  CHECK(illegal_step(joint, leave_joint(joint)) == std::nullopt);

  CHECK(after(kThree, {}) == "");
  CHECK(after(kThree, {.add = {id(3, 1)}}) == "");                               // a replica is there
  CHECK(after(kWithLearner, {.add = {id(5, 1)}}) == "");                         // not a new generation
  CHECK(after(kThree, {.promote = {id(4, 1)}}) == "");                           // no learner
  CHECK(after(kThree, {.remove = {id(4)}}) == "");                               // not there
  CHECK(after(kThree, {.remove = {id(1), id(2), id(3)}}) == "");                 // nobody left
  CHECK(after(kWithLearner, {.add = {id(5, 2)}, .promote = {id(4, 1)}}) == "");  // both kinds at once
  CHECK(after(kWithLearner, {.remove = {id(1), id(4, 1)}}) == "");               // both kinds at once
}

TEST_CASE("steps that skip a part of the path are illegal", "[raft]") {
  auto with = [](std::vector<ReplicaId> voters, std::vector<ReplicaId> outgoing = {},
                 std::vector<ReplicaId> learners = {}, uint32_t generation = 1) {
    return Configuration{voters, outgoing, learners, generation};
  };
  const Configuration joint = with({id(1), id(2), id(3), id(4, 1)}, {id(1), id(2), id(3)});
  CHECK(illegal_step(kWithLearner, joint) == std::nullopt);
  CHECK(illegal_step(kThree, with({id(1), id(2), id(3), id(4, 1)})));              // no joint configuration
  CHECK(illegal_step(kThree, joint));                                              // was no learner
  CHECK(illegal_step(kWithLearner, with({id(1), id(4, 1)}, {id(1), id(2)})));      // another old half
  CHECK(illegal_step(joint, kThree));                                              // back
  CHECK(illegal_step(joint, with({id(1), id(2), id(4, 1)})));                      // to something else
  CHECK(illegal_step(joint, with({id(1)}, {id(1), id(2), id(3), id(4, 1)})));      // to another joint one
  CHECK(illegal_step(kWithLearner, kThree));                                       // the generation falls
  CHECK(illegal_step(kWithLearner, with({id(1), id(2)}, {id(1), id(2), id(3)})));  // the learner got lost
  CHECK(illegal_step(kThree, with({id(1), id(2), id(3)}, {}, {id(4, 1)}, 0)));     // the generation was not raised
}

TEST_CASE("configurations are decoded as they were encoded, and nothing else is", "[raft]") {
  const Configuration joint = after_change(kWithLearner, {.promote = {id(4, 1)}, .remove = {id(2)}}).value();
  for (const Configuration& c : {kThree, kWithLearner, joint}) {
    const std::string bytes = encode(c);
    auto decoded = decode_configuration(bytes);
    REQUIRE(decoded);
    CHECK(*decoded == c);
    for (size_t size = 0; size < bytes.size(); ++size) CHECK_FALSE(decode_configuration(bytes.substr(0, size)));
    CHECK_FALSE(decode_configuration(bytes + 'x'));
  }
  CHECK_FALSE(decode_configuration(encode(Configuration{})));
  CHECK_FALSE(decode_configuration(encode({.voters = {id(2), id(1)}})));
  CHECK_FALSE(decode_configuration(encode({.voters = {id(1), id(1)}})));
  CHECK_FALSE(decode_configuration(encode({.voters = {id(0)}})));
  CHECK_FALSE(decode_configuration(encode({.voters = {id(1, 1)}})));
  CHECK_FALSE(decode_configuration(encode({.voters = {id(1)}, .learners = {id(1)}})));
  std::string newer = encode(kThree);
  newer[0] = 2;
  auto refused = decode_configuration(newer);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kUnsupported);

  // What is accepted is what would be written.
  uint64_t state = 7;
  auto random = [&] { return mix(state += 0x9e3779b97f4a7c15u); };
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = encode(round % 2 ? joint : kWithLearner);
    for (uint64_t n = random() % 4; n > 0; --n) bytes[random() % bytes.size()] = static_cast<char>(random() % 5);
    if (random() % 8 == 0) bytes.resize(random() % 64);
    if (auto decoded = decode_configuration(bytes)) CHECK(encode(*decoded) == bytes);
  }
}
