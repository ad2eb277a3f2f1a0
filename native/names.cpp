// Names that do not flicker: what semhier_ros/scene/names.py says of each object of a frame, for all of them in one call.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "records.hpp"

namespace semhier {
namespace {

constexpr double PAST_SHARE = 0.9, WORD_SHARE = 0.5, LEAST_SCORE = 1e-6, CLEARLY_LIKELIER = 1.5;

/// Nodes of all levels, one level after another: `names.Tree`. starts: of each level, then the end; parents: of each node
/// within the level above.
struct LevelNodes {
  const Array<std::int64_t>&starts, &parents;

  LevelNodes(const Array<std::int64_t>& starts_, const Array<std::int64_t>& parents_)
      : starts(starts_), parents(parents_) {
    expect_shape("starts", starts, {ANY});
    if (starts.size() < 2 || starts.at(0) != 0) throw py::value_error("starts: no level");
    for (py::ssize_t level = 0; level < levels(); ++level)
      if (starts.at(level + 1) <= starts.at(level)) throw py::value_error("starts: a level without nodes");
    expect_shape("parents", parents, {starts.at(levels())});
  }

  py::ssize_t levels() const { return starts.size() - 1; }
  std::int64_t start(py::ssize_t level) const { return starts.data()[level]; }
  std::int64_t size(py::ssize_t level) const { return start(level + 1) - start(level); }
  std::int64_t parent(py::ssize_t level, std::int64_t node) const { return parents.data()[start(level) + node]; }
};

void read_others(const Tuple& level, std::vector<Other>& found) {
  for (std::size_t place = 0; place < level.size(); ++place) {
    const Tuple pair = level.below(place);
    if (pair.size() != 2) throw py::value_error("detection: others that are no pairs");
    found.emplace_back(pair.whole(0), pair.real(1));
  }
}

/// What is known of the names of one object, as `names.SteadyNames` has it: the averaged shares of all nodes before the
/// present frame and with it, of which levels the latter are known, and of each level the node that is shown.
struct Known {
  const double* past;
  double* present;
  bool* known;
  std::int64_t* shown;
};

/// `SteadyNames.steady` of one detection after the other: its path, scores and others, as Python has them.
class SteadyName {
 public:
  std::vector<std::int64_t> path;
  std::vector<double> scores;
  std::vector<py::object> others;

  explicit SteadyName(const LevelNodes& tree) : tree_(tree) {}

  void find(const Tuple& said_path, const Tuple& said_scores, const Tuple& said_others, bool keep, const Known& object) {
    if (said_path.size() == 0 || said_scores.size() != said_path.size() ||
        static_cast<py::ssize_t>(said_path.size()) > tree_.levels())
      throw py::value_error("detection: a path that does not fit its scores or the levels");
    path.clear(), scores.clear(), others.clear(), beside_.clear();
    const double there = said_scores.real(0);
    double score = there;
    if (tree_.size(0) == 1) tell(0, score);
    for (std::size_t level = path.size(); level < said_path.size(); ++level) {
      const std::int64_t start = tree_.start(level), size = tree_.size(level), own = said_path.whole(level);
      beside_.clear();
      if (level < said_others.size()) read_others(said_others.below(level), beside_);
      shares_.assign(object.past + start, object.past + start + size);
      const double sure = std::max(said_scores.real(level), LEAST_SCORE);
      double weight = sure;
      for (const auto& [node, chance] : beside_) weight += chance;
      weight = (1 - WORD_SHARE) / weight;
      double word = WORD_SHARE;
      if (std::any_of(shares_.begin(), shares_.end(), [](double share) { return share > 0; })) {
        for (double& share : shares_) share *= PAST_SHARE;
        weight *= 1 - PAST_SHARE, word *= 1 - PAST_SHARE;
      }
      const auto add = [&](std::int64_t node, double share) {
        if (node < 0 || node >= size) throw py::value_error("detection: a node outside of its level");
        shares_[node] += share;
      };
      add(own, word + weight * sure);
      for (const auto& [node, chance] : beside_) add(node, weight * chance);
      if (keep) {
        std::copy(shares_.begin(), shares_.end(), object.present + start);
        object.known[level] = true;
      }
      const bool below = level > 0 && tree_.size(level - 1) > 1;
      const auto may_be = [&](std::int64_t node) {
        return shares_[node] > 0 && (!below || tree_.parent(level, node) == path.back());
      };
      std::int64_t best = -1;
      for (std::int64_t node = 0; node < size; ++node)
        if (may_be(node) && (best < 0 || shares_[node] > shares_[best])) best = node;
      if (best < 0) break;
      const std::int64_t before = object.shown[level];
      if (before >= 0 && before < size && may_be(before) && shares_[best] < CLEARLY_LIKELIER * shares_[before])
        best = before;
      if (keep) object.shown[level] = best;
      if (level == 0) {
        beside_.clear();
      } else {
        score = std::min(there * shares_[best], score);
        beside_.emplace_back(own, 0.0);
        beside_.erase(
            std::remove_if(beside_.begin(), beside_.end(), [&](const Other& one) { return one.first == best; }),
            beside_.end());
        for (auto& [node, chance] : beside_) chance = there * shares_[node];
        std::sort(beside_.begin(), beside_.end(), [](const Other& one, const Other& other) {
          return one.second != other.second ? one.second > other.second : one.first > other.first;
        });
      }
      tell(best, score);
    }
  }

 private:
  void tell(std::int64_t node, double score) {
    path.push_back(node), scores.push_back(score);
    others.push_back(others_of(beside_));
  }

  const LevelNodes& tree_;
  std::vector<Other> beside_;
  std::vector<double> shares_;
};

/// `living._Objects.named`: writes to the objects' arrays, and to the list of what is `newest` of each.
py::object named_objects(Array<double>& past, Array<double>& present, Array<bool>& known, Array<std::int64_t>& shown,
                         Array<std::int64_t>& moments, const Array<std::int64_t>& starts,
                         const Array<std::int64_t>& parents, const py::sequence& words,
                         const Array<std::int64_t>& numbers, const Array<std::int64_t>& seen_ns, const py::list& newest,
                         std::int64_t moment, const py::dict& ids, const py::tuple& detections, const py::type& made) {
  const LevelNodes tree(starts, parents);
  const py::ssize_t levels = tree.levels(), nodes = tree.start(levels), count = moments.size();
  expect_shape("past", past, {count, nodes});
  expect_shape("present", present, {count, nodes});
  expect_shape("known", known, {count, levels});
  expect_shape("shown", shown, {count, levels});
  expect_shape("moments", moments, {count});
  expect_shape("numbers", numbers, {count});
  expect_shape("seen_ns", seen_ns, {count});
  if (static_cast<py::ssize_t>(newest.size()) != count) throw py::value_error("newest: not one for each object");
  const DetectionFields& of = DetectionFields::get();
  SteadyName name(tree);
  return tuple_of(detections.size(), [&](std::size_t place) {
    const py::object item = detections[place];
    PyObject* const lasting = PyDict_GetItemWithError(ids.ptr(), of.id.of(item).ptr());
    if (lasting == nullptr) {
      if (PyErr_Occurred()) throw py::error_already_set();
      return item;
    }
    const py::object id = py::reinterpret_borrow<py::object>(lasting), box = of.box.of(item),
                     velocity = of.velocity.of(item), path = of.path.of(item), scores = of.scores.of(item),
                     others = of.others.of(item), said = of.said.of(item);
    const auto make = [&](const py::object& path, const py::object& names, const py::object& scores,
                          const py::object& others) {
      return make_record(made, {{of.id, id}, {of.box, box}, {of.path, path}, {of.names, names}, {of.scores, scores},
                                {of.others, others}, {of.velocity, velocity}, {of.said, said}});
    };
    const auto wanted = id.cast<std::int64_t>();
    const std::int64_t *end = numbers.data() + count, *at = std::lower_bound(numbers.data(), end, wanted);
    if (at == end || *at != wanted) return make(path, of.names.of(item), scores, others);
    const py::ssize_t row = at - numbers.data();
    const Known object{past.data() + row * nodes, present.mutable_data() + row * nodes,
                       known.mutable_data() + row * levels, shown.mutable_data() + row * levels};
    const bool keep = seen_ns.data()[row] == moment;
    if (keep && moments.data()[row] != moment) {
      for (py::ssize_t level = 0; level < levels; ++level) {
        if (object.known[level])
          std::copy(object.present + tree.start(level), object.present + tree.start(level + 1),
                    past.mutable_data() + row * nodes + tree.start(level));
        object.known[level] = false;
      }
      moments.mutable_data()[row] = moment;
    }
    name.find(Tuple(path), Tuple(scores), Tuple(others), keep, object);
    const std::size_t depth = name.path.size();
    const py::object named = make(
        tuple_of(depth, [&](std::size_t level) { return number(name.path[level]); }),
        tuple_of(depth, [&](std::size_t level) {
          return owned(PySequence_GetItem(py::object(words[level]).ptr(), name.path[level]));
        }),
        tuple_of(depth, [&](std::size_t level) { return number(name.scores[level]); }),
        tuple_of(depth, [&](std::size_t level) { return name.others[level]; }));
    if (keep) {
      const Tuple before(of.path.of(newest[row]));
      bool deeper = true;
      for (std::size_t level = 0; level < std::min(depth, before.size()); ++level)
        deeper = deeper && before.whole(level) == name.path[level];
      if (depth >= before.size() || !deeper) newest[row] = named;
    }
    return named;
  });
}

}  // namespace

void bind_names(py::module_& module) {
  const auto written = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("named_objects", &named_objects, written("past"), written("present"), written("known"), written("shown"),
             written("moments"), py::arg("starts"), py::arg("parents"), py::arg("words"), py::arg("numbers"),
             py::arg("seen_ns"), py::arg("newest"), py::arg("moment"), py::arg("ids"), py::arg("detections"),
             py::arg("made"));
}

}  // namespace semhier
