// Names that do not flicker: what semhier_ros/scene/names.py says of each object of a frame, for all of them in one call.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace semhier {
namespace {

constexpr double PAST_SHARE = 0.9, LEAST_SCORE = 1e-6, CLEARLY_LIKELIER = 1.5;

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

using Other = std::pair<std::int64_t, double>;

/// A field of a detection, or what stands in one, that is a tuple: read in place, for to copy them costs more than all
/// that is done with them.
struct Fields {
  py::tuple values;

  explicit Fields(const py::object& field) {
    if (!py::isinstance<py::tuple>(field)) throw py::type_error("detection: a field that is no tuple");
    values = py::reinterpret_borrow<py::tuple>(field);
  }

  std::size_t size() const { return values.size(); }
  PyObject* at(std::size_t place) const { return PyTuple_GET_ITEM(values.ptr(), static_cast<py::ssize_t>(place)); }
  Fields below(std::size_t place) const { return Fields(py::reinterpret_borrow<py::object>(at(place))); }

  std::int64_t whole(std::size_t place) const {
    const long long value = PyLong_AsLongLong(at(place));
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    return value;
  }

  double real(std::size_t place) const {
    const double value = PyFloat_AsDouble(at(place));
    if (value == -1.0 && PyErr_Occurred()) throw py::error_already_set();
    return value;
  }
};

std::vector<Other> others_of(const Fields& level) {
  std::vector<Other> found;
  for (std::size_t place = 0; place < level.size(); ++place) {
    const Fields pair = level.below(place);
    if (pair.size() != 2) throw py::value_error("detection: others that are no pairs");
    found.emplace_back(pair.whole(0), pair.real(1));
  }
  return found;
}

/// `SteadyNames._steady`: path, scores and others of one detection under the names of its object. The object's rows of
/// the averaged shares (`past`, `present`), of which levels the present ones are `known`, and of the nodes `shown`.
py::tuple steady_name(const LevelNodes& tree, const py::handle& item, bool keep, const double* past, double* present,
                      bool* known, std::int64_t* shown) {
  const Fields said_path(item.attr("path")), said_scores(item.attr("scores")), said_others(item.attr("others"));
  if (said_path.size() == 0 || said_scores.size() != said_path.size() ||
      static_cast<py::ssize_t>(said_path.size()) > tree.levels())
    throw py::value_error("detection: a path that does not fit its scores or the levels");
  const double there = said_scores.real(0);
  double score = there;
  std::vector<std::int64_t> path;
  py::list scores, others;
  const auto tell = [&](std::int64_t node, const std::vector<Other>& beside) {
    py::tuple found(beside.size());
    for (std::size_t place = 0; place < beside.size(); ++place) {
      py::tuple pair(2);
      PyTuple_SET_ITEM(pair.ptr(), 0, py::int_(beside[place].first).release().ptr());
      PyTuple_SET_ITEM(pair.ptr(), 1, py::float_(beside[place].second).release().ptr());
      PyTuple_SET_ITEM(found.ptr(), static_cast<py::ssize_t>(place), pair.release().ptr());
    }
    path.push_back(node), scores.append(score), others.append(found);
  };
  if (tree.size(0) == 1) tell(0, {});
  for (std::size_t level = path.size(); level < said_path.size(); ++level) {
    const std::int64_t start = tree.start(level), size = tree.size(level), own = said_path.whole(level);
    const std::vector<Other> beside =
        level < said_others.size() ? others_of(said_others.below(level)) : std::vector<Other>();
    std::vector<double> shares(past + start, past + start + size);
    const double sure = std::max(said_scores.real(level), LEAST_SCORE);
    double weight = sure;
    for (const auto& [node, chance] : beside) weight += chance;
    weight = 1 / weight;
    if (std::any_of(shares.begin(), shares.end(), [](double share) { return share > 0; })) {
      for (double& share : shares) share *= PAST_SHARE;
      weight *= 1 - PAST_SHARE;
    }
    const auto add = [&](std::int64_t node, double chance) {
      if (node < 0 || node >= size) throw py::value_error("detection: a node outside of its level");
      shares[node] += weight * chance;
    };
    add(own, sure);
    for (const auto& [node, chance] : beside) add(node, chance);
    if (keep) {
      std::copy(shares.begin(), shares.end(), present + start);
      known[level] = true;
    }
    const bool below = level > 0 && tree.size(level - 1) > 1;
    const auto may_be = [&](std::int64_t node) {
      return shares[node] > 0 && (!below || tree.parent(level, node) == path.back());
    };
    std::int64_t best = -1;
    for (std::int64_t node = 0; node < size; ++node)
      if (may_be(node) && (best < 0 || shares[node] > shares[best])) best = node;
    if (best < 0) break;
    const std::int64_t before = shown[level];
    if (before >= 0 && before < size && may_be(before) && shares[best] < CLEARLY_LIKELIER * shares[before])
      best = before;
    if (keep) shown[level] = best;
    std::vector<std::pair<double, std::int64_t>> rest;
    if (level) {
      score = std::min(there * shares[best], score);
      for (const auto& [node, chance] : beside)
        if (node != best) rest.emplace_back(there * shares[node], node);
      if (own != best) rest.emplace_back(there * shares[own], own);
      std::sort(rest.begin(), rest.end(), std::greater<>());
    }
    std::vector<Other> likeliest(rest.size());
    std::transform(rest.begin(), rest.end(), likeliest.begin(),
                   [](const auto& one) { return Other(one.second, one.first); });
    tell(best, likeliest);
  }
  return py::make_tuple(py::tuple(py::cast(path)), py::tuple(scores), py::tuple(others));
}

/// `SteadyNames.steady`: writes to the objects' arrays.
py::list steady_names(Array<double>& past, Array<double>& present, Array<bool>& known, Array<std::int64_t>& shown,
                      Array<std::int64_t>& moments, const Array<std::int64_t>& starts,
                      const Array<std::int64_t>& parents, std::int64_t moment, const std::vector<py::ssize_t>& rows,
                      const std::vector<bool>& newest, const py::list& items) {
  const LevelNodes tree(starts, parents);
  const py::ssize_t levels = tree.levels(), nodes = tree.start(levels), count = moments.size();
  expect_shape("past", past, {count, nodes});
  expect_shape("present", present, {count, nodes});
  expect_shape("known", known, {count, levels});
  expect_shape("shown", shown, {count, levels});
  expect_shape("moments", moments, {count});
  if (newest.size() != rows.size() || items.size() != rows.size()) throw py::value_error("items: not one for each row");
  py::list found;
  for (std::size_t place = 0; place < rows.size(); ++place) {
    const py::ssize_t row = rows[place];
    if (row < 0 || row >= count) throw py::value_error("rows: no such object");
    double *old = past.mutable_data() + row * nodes, *now = present.mutable_data() + row * nodes;
    bool* fresh = known.mutable_data() + row * levels;
    std::int64_t& when = moments.mutable_data()[row];
    if (newest[place] && when != moment) {
      for (py::ssize_t level = 0; level < levels; ++level) {
        if (fresh[level]) std::copy(now + tree.start(level), now + tree.start(level + 1), old + tree.start(level));
        fresh[level] = false;
      }
      when = moment;
    }
    found.append(steady_name(tree, items[place], newest[place], old, now, fresh, shown.mutable_data() + row * levels));
  }
  return found;
}

}  // namespace

void bind_names(py::module_& module) {
  const auto written = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("steady_names", &steady_names, written("past"), written("present"), written("known"), written("shown"),
             written("moments"), py::arg("starts"), py::arg("parents"), py::arg("moment"), py::arg("rows"),
             py::arg("newest"), py::arg("items"));
}

}  // namespace semhier
