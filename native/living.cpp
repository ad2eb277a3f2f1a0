// How surely the living scene's objects are there, and which of them are shown: what semhier_ros/scene/living.py says in
// NumPy.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "records.hpp"

namespace semhier {
namespace {

/// `living.Confidence`.
struct Confidence {
  double one, score, unseen, misses, hits, overlap;

  explicit Confidence(const std::array<double, 6>& weights)
      : one(weights[0]), score(weights[1]), unseen(weights[2]), misses(weights[3]), hits(weights[4]),
        overlap(weights[5]) {}

  double of(double said, double missed, double seen, double shared) const {
    const double odds = std::min(std::max(said, 0.02), 0.98);
    double total = one + score * std::log(odds / (1 - odds)) + unseen * (missed > 0) + misses * std::min(missed, 6.0);
    total += hits * std::log(std::min(std::max(seen, 1.0), 10.0)) + overlap * std::log(std::max(shared, 1e-3));
    return 1 / (1 + std::exp(-total));
  }
};

/// How often and how surely each of n objects was seen, as `living._Objects` has it.
struct History {
  py::ssize_t count;
  const double *said, *hits, *misses;

  History(const Array<double>& scores, const Array<double>& seen, const Array<double>& missed)
      : count(scores.size()), said(scores.data()), hits(seen.data()), misses(missed.data()) {
    for (const Array<double>* one : {&scores, &seen, &missed}) expect_shape("history", *one, {count});
  }

  /// That it is seen where nothing is unsure of its place.
  double chance(const Confidence& confidence, py::ssize_t i) const {
    return confidence.of(said[i], misses[i], hits[i], 1.0);
  }
};

/// `living.overlap_chance` of one object.
double overlap_chance(const double* covariance, const double* sides) {
  double chance = 1.0;
  for (int axis = 0; axis < 2; ++axis) {
    const double spread = std::sqrt(std::max(covariance[3 * axis], 1e-9));
    chance *= std::erf(0.4 * sides[axis] / (spread * std::sqrt(2.0)));
  }
  return chance;
}

/// Fields of `codec.reading.TrackedObject`.
struct TrackedFields {
  Field id{"id"}, box{"box"}, velocity{"velocity"}, covariance{"covariance"},
      velocity_covariance{"velocity_covariance"}, age{"age"}, since{"since"}, path{"path"}, names{"names"},
      scores{"scores"}, existence{"existence"};
};

/// `living.shown_objects`. number, born_ns, seen_ns, there, said, hits, misses, shown: of `living._Objects`.
py::object shown_objects(const std::array<double, 6>& weights, const std::array<double, 2>& size, double least_shown,
                         const Array<double>& centre, const Array<double>& velocity, const Array<double>& covariance,
                         const Array<double>& velocity_covariance, const Array<double>& sides,
                         const Array<std::int64_t>& numbers, const Array<std::int64_t>& born_ns,
                         const Array<std::int64_t>& seen_ns, const Array<double>& there, const Array<double>& said,
                         const Array<double>& hits, const Array<double>& misses, const py::list& shown,
                         std::int64_t now_ns, const py::type& made) {
  static const TrackedFields of;
  const History history(said, hits, misses);
  const py::ssize_t count = history.count;
  expect_shape("there", there, {count});
  for (const Array<double>* one : {&centre, &velocity, &sides}) expect_shape("told", *one, {count, 2});
  for (const Array<double>* one : {&covariance, &velocity_covariance}) expect_shape("covariance", *one, {count, 2, 2});
  for (const Array<std::int64_t>* one : {&numbers, &born_ns, &seen_ns}) expect_shape("history", *one, {count});
  if (static_cast<py::ssize_t>(shown.size()) != count) throw py::value_error("shown: not one for each object");
  const Confidence confidence(weights);
  py::list found;
  for (py::ssize_t i = 0; i < count; ++i) {
    const double score = history.said[i], often = history.hits[i];
    const double *spread = covariance.data() + 4 * i, *unsure = velocity_covariance.data() + 4 * i,
                 *speed = velocity.data() + 2 * i;
    const double chance = confidence.of(score, history.misses[i], often, overlap_chance(spread, sides.data() + 2 * i));
    double low[2], high[2];
    for (int axis = 0; axis < 2; ++axis) {
      const double middle = centre.data()[2 * i + axis], half = sides.data()[2 * i + axis] / 2;
      low[axis] = std::max(middle - half, 0.0), high[axis] = std::min(middle + half, size[axis]);
    }
    if (chance < least_shown || high[0] - low[0] < 1 || high[1] - low[1] < 1) continue;
    const double existence = there.data()[i] * std::min(chance / confidence.of(score, 0.0, often, 1.0), 1.0);
    const auto seconds_since = [&](const Array<std::int64_t>& then_ns) {
      return number(static_cast<double>(now_ns - then_ns.data()[i]) / 1e9);
    };
    const py::object newest = shown[i];
    const Tuple scores(of.scores.of(newest));
    if (scores.size() == 0) throw py::value_error("detection: without a score");
    const double share = chance / std::max(scores.real(0), 1e-6);
    found.append(make_record(
        made,
        {{of.id, number(numbers.data()[i])}, {of.box, numbers_of({low[0], low[1], high[0], high[1]})},
         {of.velocity, numbers_of({speed[0], speed[1]})}, {of.covariance, numbers_of({spread[0], spread[1], spread[3]})},
         {of.velocity_covariance, numbers_of({unsure[0], unsure[1], unsure[3]})}, {of.age, seconds_since(seen_ns)},
         {of.since, seconds_since(born_ns)}, {of.path, of.path.of(newest)}, {of.names, of.names.of(newest)},
         {of.scores, tuple_of(scores.size(), [&](std::size_t level) {
            return number(std::min(1.0, share * scores.real(level)));
          })},
         {of.existence, number(existence)}}));
  }
  return py::tuple(found);
}

/// The group of a detection, -1 where it is not known.
std::int64_t group_of(const py::handle& item) {
  const Tuple path(DetectionFields::get().path.of(item));
  return path.size() > 1 ? path.whole(1) : -1;
}

/// `living.pair_costs`: n,k twice.
std::pair<Array<double>, Array<bool>> pair_costs(const Array<double>& far, const Array<double>& cost,
                                                 const py::list& mine, const py::tuple& theirs,
                                                 const std::array<double, 6>& weights, const Array<double>& said,
                                                 const Array<double>& hits, const Array<double>& misses, double gate,
                                                 double another_group, double afresh) {
  const History history(said, hits, misses);
  const Confidence confidence(weights);
  const py::ssize_t rows = history.count, places = static_cast<py::ssize_t>(theirs.size());
  expect_shape("far", far, {rows, places});
  expect_shape("cost", cost, {rows, places});
  if (static_cast<py::ssize_t>(mine.size()) != rows) throw py::value_error("mine: not one for each object");
  std::vector<std::int64_t> groups;
  for (const py::handle item : theirs) groups.push_back(group_of(item));
  Array<double> dear({rows, places});
  Array<bool> allowed({rows, places});
  double* price = dear.mutable_data();
  bool* good = allowed.mutable_data();
  double worst = -std::numeric_limits<double>::infinity();
  for (py::ssize_t row = 0; row < rows; ++row) {
    const double doubt = 2 * std::log(history.chance(confidence, row));
    const std::int64_t group = group_of(mine[row]);
    for (py::ssize_t place = 0; place < places; ++place) {
      const std::int64_t other = groups[place];
      const py::ssize_t at = row * places + place;
      price[at] = cost.data()[at] + another_group * (group != other && group >= 0 && other >= 0);
      good[at] = far.data()[at] < gate && price[at] - doubt < afresh;
      if (good[at]) worst = std::max(worst, price[at]);
    }
  }
  for (py::ssize_t at = 0; at < rows * places; ++at)
    if (!good[at]) price[at] = worst + 100.0;
  return {dear, allowed};
}

/// `living._Objects.see`: writes to the objects' arrays.
void see_objects(Array<double>& there, Array<double>& said, Array<double>& hits, Array<double>& misses,
                 Array<std::int64_t>& seen_ns, const Array<std::int64_t>& rows, const Array<std::int64_t>& places,
                 const py::tuple& detections, double new_weight, std::int64_t stamp_ns) {
  const History history(said, hits, misses);
  expect_shape("there", there, {history.count});
  expect_shape("seen_ns", seen_ns, {history.count});
  expect_shape("rows", rows, {ANY});
  expect_shape("places", places, {rows.size()});
  expect_numbers("rows", rows, history.count);
  expect_numbers("places", places, static_cast<py::ssize_t>(detections.size()));
  for (py::ssize_t i = 0; i < history.count; ++i) ++misses.mutable_data()[i];
  for (py::ssize_t k = 0; k < rows.size(); ++k) {
    const std::int64_t row = rows.data()[k];
    const py::object item = detections[places.data()[k]], told = DetectionFields::get().said.of(item);
    const Tuple scores(DetectionFields::get().scores.of(item));
    if (scores.size() == 0) throw py::value_error("detection: without a score");
    const double score = scores.real(0), own = told.is_none() ? score : told.cast<double>();
    double &averaged = there.mutable_data()[row], &averaged_own = said.mutable_data()[row];
    averaged += new_weight * (score - averaged), averaged_own += new_weight * (own - averaged_own);
    misses.mutable_data()[row] = 0, ++hits.mutable_data()[row], seen_ns.mutable_data()[row] = stamp_ns;
  }
}

/// `living.lasting_objects`: their rows.
Array<std::int64_t> lasting_objects(const std::array<double, 6>& weights, const Array<double>& said,
                                    const Array<double>& hits, const Array<double>& misses,
                                    const Array<std::int64_t>& seen_ns, double least_shown, std::int64_t since_ns,
                                    std::size_t most) {
  const History history(said, hits, misses);
  expect_shape("seen_ns", seen_ns, {history.count});
  const Confidence confidence(weights);
  std::vector<std::pair<double, std::int64_t>> kept;  // less likely ones are larger
  for (py::ssize_t i = 0; i < history.count; ++i) {
    const double chance = history.chance(confidence, i);
    if (chance >= least_shown && seen_ns.data()[i] >= since_ns) kept.emplace_back(-chance, i);
  }
  if (kept.size() > most) {
    std::sort(kept.begin(), kept.end());
    kept.resize(most);
    std::sort(kept.begin(), kept.end(), [](const auto& one, const auto& other) { return one.second < other.second; });
  }
  Array<std::int64_t> rows(static_cast<py::ssize_t>(kept.size()));
  for (std::size_t place = 0; place < kept.size(); ++place) rows.mutable_data()[place] = kept[place].second;
  return rows;
}

/// `living.seen_in`: the four arrays k,2 of `forecast.Seen`.
std::tuple<Array<double>, Array<double>, Array<double>, Array<double>> seen_in(const py::tuple& detections,
                                                                               double jitter, double jitter_pixels,
                                                                               double side_jitter, double close) {
  const auto count = static_cast<py::ssize_t>(detections.size());
  const std::vector<py::ssize_t> shape{count, 2};
  Array<double> centre(shape), centre_variance(shape), sides(shape), sides_variance(shape);
  for (py::ssize_t i = 0; i < count; ++i) {
    const Tuple box(DetectionFields::get().box.of(detections[i]));
    if (box.size() != 4) throw py::value_error("detection: a box that is not of four numbers");
    for (py::ssize_t axis = 0; axis < 2; ++axis) {
      const double low = box.real(axis), high = box.real(2 + axis), side = std::max(high - low, 1.0);
      const double unsure = jitter * side;
      centre.mutable_data()[2 * i + axis] = (low + high) / 2;
      centre_variance.mutable_data()[2 * i + axis] = (unsure * unsure + jitter_pixels * jitter_pixels) * close;
      sides.mutable_data()[2 * i + axis] = std::log(side);
      sides_variance.mutable_data()[2 * i + axis] = side_jitter * side_jitter * close;
    }
  }
  return {centre, centre_variance, sides, sides_variance};
}

}  // namespace

void bind_living(py::module_& module) {
  module.def("pair_costs", &pair_costs, py::arg("far"), py::arg("cost"), py::arg("mine"), py::arg("theirs"),
             py::arg("weights"), py::arg("said"), py::arg("hits"), py::arg("misses"), py::arg("gate"),
             py::arg("another_group"), py::arg("afresh"));
  const auto written = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("see_objects", &see_objects, written("there"), written("said"), written("hits"), written("misses"),
             written("seen_ns"), py::arg("rows"), py::arg("places"), py::arg("detections"), py::arg("new_weight"), py::arg("stamp_ns"));
  module.def("lasting_objects", &lasting_objects, py::arg("weights"), py::arg("said"), py::arg("hits"),
             py::arg("misses"), py::arg("seen_ns"), py::arg("least_shown"), py::arg("since_ns"), py::arg("most"));
  module.def("seen_in", &seen_in, py::arg("detections"), py::arg("jitter"), py::arg("jitter_pixels"),
             py::arg("side_jitter"), py::arg("close"));
  module.def("shown_objects", &shown_objects, py::arg("weights"), py::arg("size"), py::arg("least_shown"),
             py::arg("centre"), py::arg("velocity"), py::arg("covariance"), py::arg("velocity_covariance"),
             py::arg("sides"), py::arg("numbers"), py::arg("born_ns"), py::arg("seen_ns"), py::arg("there"),
             py::arg("said"), py::arg("hits"), py::arg("misses"), py::arg("shown"), py::arg("now_ns"), py::arg("made"));
}

}  // namespace semhier
