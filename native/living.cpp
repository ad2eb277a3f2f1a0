// How surely the living scene's objects are there, and which of them are shown: what semhier_ros/scene/living.py says in
// NumPy.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "arrays.hpp"

namespace semhier {
namespace {

/// `living.Confidence`.
struct Confidence {
  double one, score, unseen, misses, hits, overlap;

  explicit Confidence(const std::array<double, 6>& weights)
      : one(weights[0]), score(weights[1]), unseen(weights[2]), misses(weights[3]), hits(weights[4]),
        overlap(weights[5]) {}

  double of(double there, double missed, double seen, double shared) const {
    const double odds = std::min(std::max(there, 0.02), 0.98);
    double total = one + score * std::log(odds / (1 - odds)) + unseen * (missed > 0) + misses * std::min(missed, 6.0);
    total += hits * std::log(std::min(std::max(seen, 1.0), 10.0)) + overlap * std::log(std::max(shared, 1e-3));
    return 1 / (1 + std::exp(-total));
  }
};

/// `Confidence.of` of n objects whose boxes overlap as foretold.
Array<double> seen_again(const std::array<double, 6>& weights, const Array<double>& there, const Array<double>& misses,
                         const Array<double>& hits) {
  expect_shape("there", there, {ANY});
  expect_shape("misses", misses, {there.size()});
  expect_shape("hits", hits, {there.size()});
  const Confidence confidence(weights);
  Array<double> chances(there.size());
  for (py::ssize_t i = 0; i < there.size(); ++i)
    chances.mutable_data()[i] = confidence.of(there.data()[i], misses.data()[i], hits.data()[i], 1.0);
  return chances;
}

/// `living.overlap_chance` of one object.
double overlap_chance(const double* covariance, const double* sides) {
  double chance = 1.0;
  for (int axis = 0; axis < 2; ++axis) {
    const double spread = std::sqrt(std::max(covariance[3 * axis], 1e-9));
    chance *= std::erf(0.4 * sides[axis] / (spread * std::sqrt(2.0)));
  }
  return chance;
}

/// `living.shown_objects`: of every object that is shown its row, box, velocity, both covariances, chance and existence.
py::list shown_objects(const std::array<double, 6>& weights, const std::array<double, 2>& size, double least_shown,
                       const Array<double>& centre, const Array<double>& velocity, const Array<double>& covariance,
                       const Array<double>& velocity_covariance, const Array<double>& sides, const Array<double>& there,
                       const Array<double>& misses, const Array<double>& hits) {
  expect_shape("there", there, {ANY});
  const py::ssize_t count = there.size();
  for (const Array<double>* one : {&centre, &velocity, &sides}) expect_shape("told", *one, {count, 2});
  for (const Array<double>* one : {&covariance, &velocity_covariance}) expect_shape("covariance", *one, {count, 2, 2});
  for (const Array<double>* one : {&misses, &hits}) expect_shape("history", *one, {count});
  const Confidence confidence(weights);
  py::list shown;
  for (py::ssize_t i = 0; i < count; ++i) {
    const double score = there.data()[i], often = hits.data()[i];
    const double *spread = covariance.data() + 4 * i, *unsure = velocity_covariance.data() + 4 * i,
                 *speed = velocity.data() + 2 * i;
    const double chance = confidence.of(score, misses.data()[i], often, overlap_chance(spread, sides.data() + 2 * i));
    double low[2], high[2];
    for (int axis = 0; axis < 2; ++axis) {
      const double middle = centre.data()[2 * i + axis], half = sides.data()[2 * i + axis] / 2;
      low[axis] = std::max(middle - half, 0.0), high[axis] = std::min(middle + half, size[axis]);
    }
    if (chance < least_shown || high[0] - low[0] < 1 || high[1] - low[1] < 1) continue;
    const double existence = score * std::min(chance / confidence.of(score, 0.0, often, 1.0), 1.0);
    shown.append(py::make_tuple(i, py::make_tuple(low[0], low[1], high[0], high[1]), py::make_tuple(speed[0], speed[1]),
                                py::make_tuple(spread[0], spread[1], spread[3]),
                                py::make_tuple(unsure[0], unsure[1], unsure[3]), chance, existence));
  }
  return shown;
}

/// `living.pair_costs`: n,k twice.
std::pair<Array<double>, Array<bool>> pair_costs(const Array<double>& far, const Array<double>& cost,
                                                 const Array<std::int64_t>& mine, const Array<std::int64_t>& theirs,
                                                 const Array<double>& chances, double gate, double another_group,
                                                 double afresh) {
  expect_shape("far", far, {ANY, ANY});
  const py::ssize_t rows = far.shape(0), places = far.shape(1);
  expect_shape("cost", cost, {rows, places});
  expect_shape("mine", mine, {rows});
  expect_shape("theirs", theirs, {places});
  expect_shape("chances", chances, {rows});
  Array<double> dear({rows, places});
  Array<bool> allowed({rows, places});
  double* price = dear.mutable_data();
  bool* good = allowed.mutable_data();
  double worst = -std::numeric_limits<double>::infinity();
  for (py::ssize_t row = 0; row < rows; ++row) {
    const double doubt = 2 * std::log(chances.data()[row]);
    for (py::ssize_t place = 0; place < places; ++place) {
      const std::int64_t group = mine.data()[row], other = theirs.data()[place];
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

}  // namespace

void bind_living(py::module_& module) {
  module.def("pair_costs", &pair_costs, py::arg("far"), py::arg("cost"), py::arg("mine"), py::arg("theirs"),
             py::arg("chances"), py::arg("gate"), py::arg("another_group"), py::arg("afresh"));
  module.def("seen_again", &seen_again, py::arg("weights"), py::arg("there"), py::arg("misses"), py::arg("hits"));
  module.def("shown_objects", &shown_objects, py::arg("weights"), py::arg("size"), py::arg("least_shown"),
             py::arg("centre"), py::arg("velocity"), py::arg("covariance"), py::arg("velocity_covariance"),
             py::arg("sides"), py::arg("there"), py::arg("misses"), py::arg("hits"));
}

}  // namespace semhier
