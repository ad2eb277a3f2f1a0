// What the living scene's filters foretell, and how forecasts are held against what is seen: semhier_ros/scene/outlook.py,
// forecast.py and shares.py say in NumPy what is computed here, object by object, in one call.

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "motion.hpp"

namespace semhier {
namespace {

constexpr double VELOCITY_SECONDS = 0.3, LEAST_STEP = 0.05, SAME_BOX = 0.1, ELLIPSE = 5.991;

/// `MotionBank._outlook`, to the bit: its mean, variance and velocity_variance.
std::tuple<Doubles, Doubles, Doubles> motion_outlook(const Doubles& mean, const Doubles& cov, const Doubles& log,
                                                     const Doubles& log_cov, const Doubles& side,
                                                     const Doubles& noise) {
  const auto [models, count, width] = sizes_of(mean, cov);
  expect_shape("log", log, {models, 2, AXES, count});
  expect_shape("log_cov", log_cov, {models, 3, AXES, count});
  expect_shape("side", side, {count});
  expect_shape("noise", noise, {models, 5});
  Doubles means({py::ssize_t{2}, models, PARTS, count}), variances({py::ssize_t{4}, models, PARTS, count}),
      unsure({py::ssize_t{2}, models, AXES, count});
  for (py::ssize_t model = 0; model < models; ++model) {
    const double* told = noise.data() + 5 * model;
    const double camera = told[0], own = told[1] * told[1], growth = told[3], drift = told[4];
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      const py::ssize_t filter = model * AXES + axis;
      const double *middle = mean.data() + filter * width, *square = cov.data() + filter * width * width;
      const double *logs = log.data() + (model * 2 * AXES + axis) * count,
                   *log_covs = log_cov.data() + (model * 3 * AXES + axis) * count;
      const auto part = [&](Doubles& all, py::ssize_t power, py::ssize_t of) {
        return all.mutable_data() + ((power * models + model) * PARTS + of) * count;
      };
      for (py::ssize_t i = 0; i < count; ++i) {
        const py::ssize_t place = 1 + i, speed = 1 + count + i;
        const double area = side.data()[i] * side.data()[i], drifting = drift * area, restless = camera + own * area;
        const double moving = square[place * width + speed] + square[place];
        const double rate = square[speed * width + speed] + 2 * square[speed] + square[0];
        part(means, 0, axis)[i] = middle[place], part(means, 1, axis)[i] = middle[speed] + middle[0];
        part(variances, 0, axis)[i] = square[place * width + place];
        part(variances, 1, axis)[i] = 2 * moving + drifting;
        part(variances, 2, axis)[i] = rate, part(variances, 3, axis)[i] = restless / 3;
        unsure.mutable_data()[(model * AXES + axis) * count + i] = rate + drifting / VELOCITY_SECONDS;
        unsure.mutable_data()[((models + model) * AXES + axis) * count + i] = restless;
        for (py::ssize_t power = 0; power < 2; ++power)
          part(means, power, AXES + axis)[i] = logs[power * AXES * count + i];
        const double both = log_covs[AXES * count + i];
        part(variances, 0, AXES + axis)[i] = log_covs[i];
        part(variances, 1, AXES + axis)[i] = both + (both + drift);
        part(variances, 2, AXES + axis)[i] = log_covs[2 * AXES * count + i];
        part(variances, 3, AXES + axis)[i] = growth / 3;
      }
    }
  }
  return {means, variances, unsure};
}

/// What models say of two numbers by shares: `forecast._mixture` of one object.
struct Mixture {
  double mean[AXES] = {}, own[AXES] = {}, both = 0.0;

  template <class Numbers, class Spreads, class Weights>
  Mixture(py::ssize_t models, const Numbers& number, const Spreads& spread, const Weights& weight) {
    for (py::ssize_t model = 0; model < models; ++model)
      for (py::ssize_t axis = 0; axis < AXES; ++axis) mean[axis] += weight(model, axis) * number(model, axis);
    for (py::ssize_t model = 0; model < models; ++model) {
      double apart[AXES];
      for (py::ssize_t axis = 0; axis < AXES; ++axis) {
        const double share = weight(model, axis);
        apart[axis] = (number(model, axis) - mean[axis]) * std::sqrt(share);
        own[axis] += apart[axis] * apart[axis] + share * spread(model, axis);
      }
      both += apart[0] * apart[1];
    }
  }

  void put(double* square, double scale) const {
    square[0] = own[0] * scale, square[1] = square[2] = both * scale, square[3] = own[1] * scale;
  }
};

/// Coefficients of an `Outlook`, and what they foretell of an object at one moment.
class Outlooks {
 public:
  py::ssize_t models, count;

  Outlooks(const Doubles& mean, const Doubles& variance, double seconds)
      : models(mean.ndim() == 4 ? mean.shape(1) : 0), count(mean.ndim() == 4 ? mean.shape(3) : 0), seconds_(seconds),
        mean_(mean.data()), variance_(variance.data()) {
    expect_shape("mean", mean, {2, ANY, PARTS, ANY});
    expect_shape("variance", variance, {4, models, PARTS, count});
  }

  double mean(py::ssize_t model, py::ssize_t part, py::ssize_t i) const {
    const double* at = mean_ + (model * PARTS + part) * count + i;
    return at[0] + seconds_ * at[models * PARTS * count];
  }

  double variance(py::ssize_t model, py::ssize_t part, py::ssize_t i) const {
    const py::ssize_t step = models * PARTS * count;
    const double* at = variance_ + (model * PARTS + part) * count + i;
    return at[0] + seconds_ * (at[step] + seconds_ * (at[2 * step] + seconds_ * at[3 * step]));
  }

  /// Of its centre; share(model, part).
  template <class Weights>
  Mixture centre(py::ssize_t i, const Weights& share) const {
    return Mixture(
        models, [&](py::ssize_t model, py::ssize_t axis) { return mean(model, axis, i); },
        [&](py::ssize_t model, py::ssize_t axis) { return variance(model, axis, i); }, share);
  }

  template <class Weights>
  double side(py::ssize_t i, py::ssize_t axis, const Weights& share) const {
    double log = 0.0;
    for (py::ssize_t model = 0; model < models; ++model)
      log += share(model, AXES + axis) * mean(model, AXES + axis, i);
    return std::exp(log);
  }

 private:
  double seconds_;
  const double *mean_, *variance_;
};

/// `forecast.foretold`: centre, velocity, their covariances and the sides. shares m,4; scale: of the covariance.
std::tuple<Doubles, Doubles, Doubles, Doubles, Doubles> motion_foretold(const Doubles& mean, const Doubles& variance,
                                                                        const Doubles& velocity_variance,
                                                                        const Doubles& shares, double seconds,
                                                                        double scale) {
  const Outlooks outlook(mean, variance, seconds);
  const py::ssize_t models = outlook.models, count = outlook.count;
  expect_shape("velocity_variance", velocity_variance, {2, models, AXES, count});
  expect_shape("shares", shares, {models, PARTS});
  const auto share = [&](py::ssize_t model, py::ssize_t part) { return shares.data()[model * PARTS + part]; };
  Doubles centre({count, AXES}), velocity({count, AXES}), covariance({count, AXES, AXES}),
      velocity_covariance({count, AXES, AXES}), sides({count, AXES});
  const double *speeds = mean.data() + models * PARTS * count, *unsure = velocity_variance.data();
  for (py::ssize_t i = 0; i < count; ++i) {
    const Mixture place = outlook.centre(i, share);
    const Mixture speed(
        models, [&](py::ssize_t model, py::ssize_t axis) { return speeds[(model * PARTS + axis) * count + i]; },
        [&](py::ssize_t model, py::ssize_t axis) {
          const double* at = unsure + (model * AXES + axis) * count + i;
          return at[0] + seconds * at[models * AXES * count];
        },
        share);
    place.put(covariance.mutable_data() + 4 * i, scale);
    speed.put(velocity_covariance.mutable_data() + 4 * i, 1.0);
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      centre.mutable_data()[AXES * i + axis] = place.mean[axis];
      velocity.mutable_data()[AXES * i + axis] = speed.mean[axis];
      sides.mutable_data()[AXES * i + axis] = outlook.side(i, axis, share);
    }
  }
  return {centre, velocity, covariance, velocity_covariance, sides};
}

/// `forecast.Seen`: of k things centre and log sides, with their variances.
struct SeenThings {
  py::ssize_t count;
  const double* parts[4];

  explicit SeenThings(const std::vector<Doubles>& seen) : count(0) {
    if (seen.size() != 4) throw py::value_error("seen: expected four arrays");
    expect_shape("seen", seen[0], {ANY, AXES});
    count = seen[0].shape(0);
    for (std::size_t part = 0; part < 4; ++part) {
      expect_shape("seen", seen[part], {count, AXES});
      parts[part] = seen[part].data();
    }
  }

  double value(py::ssize_t part, py::ssize_t k) const { return parts[part < AXES ? 0 : 2][AXES * k + part % AXES]; }
  double variance(py::ssize_t part, py::ssize_t k) const { return parts[part < AXES ? 1 : 3][AXES * k + part % AXES]; }
};

/// A box with its middle and sides.
struct Foretold {
  double middle[AXES], side[AXES];

  /// Intersection over union.
  double shared(const Foretold& other) const {
    double inner = 1.0;
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      const double apart = std::abs(middle[axis] - other.middle[axis]);
      inner *= std::min(std::max((side[axis] + other.side[axis]) / 2 - apart, 0.0), std::min(side[axis], other.side[axis]));
    }
    return inner / (side[0] * side[1] + other.side[0] * other.side[1] - inner);
  }
};

/// For each of `boxes` the one of `seen` that overlaps it most, where it overlaps that one most, too, and both by more
/// than SAME_BOX; -1 for none: `forecast._nearest`.
std::vector<py::ssize_t> nearest(const std::vector<Foretold>& boxes, const std::vector<Foretold>& seen) {
  std::vector<py::ssize_t> best(boxes.size(), -1);
  std::vector<double> overlap(boxes.size(), SAME_BOX), most(seen.size(), -1.0);
  std::vector<std::size_t> top(seen.size());
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    for (std::size_t k = 0; k < seen.size(); ++k) {
      const double shared = boxes[i].shared(seen[k]);
      if (shared > most[k]) most[k] = shared, top[k] = i;
      if (shared > overlap[i]) overlap[i] = shared, best[i] = static_cast<py::ssize_t>(k);
    }
  }
  for (std::size_t i = 0; i < boxes.size(); ++i)
    if (best[i] >= 0 && top[best[i]] != i) best[i] = -1;
  return best;
}

/// `forecast.judged`: of every age in turn what it foretold (coefficients and the seconds since), the numbers of its
/// objects, its shares (of shares m,4,ages) and the scale of its covariances.
std::tuple<Doubles, std::vector<std::int64_t>, std::vector<std::int64_t>, std::vector<std::int64_t>, Doubles, Doubles>
motion_judged(const std::vector<std::tuple<Doubles, Doubles, Array<std::int64_t>, double>>& told,
              const Doubles& shares, const std::vector<double>& scales, const Array<std::int64_t>& numbers,
              const std::vector<Doubles>& seen_parts, const std::vector<Doubles>& other_parts) {
  if (told.empty()) throw py::value_error("told: of no age");
  const SeenThings seen(seen_parts), others(other_parts);
  expect_shape("numbers", numbers, {seen.count});
  const py::ssize_t ages = static_cast<py::ssize_t>(told.size());
  const py::ssize_t models = Outlooks(std::get<0>(told[0]), std::get<1>(told[0]), 0.0).models;
  expect_shape("shares", shares, {models, PARTS, ages});
  if (scales.size() != told.size()) throw py::value_error("scales: not one for each age");
  std::vector<Foretold> things;
  std::vector<double> unsure;
  for (const SeenThings* part : {&seen, &others}) {
    for (py::ssize_t k = 0; k < part->count; ++k) {
      things.push_back({{part->value(0, k), part->value(1, k)}, {std::exp(part->value(2, k)), std::exp(part->value(3, k))}});
      for (py::ssize_t axis = 0; axis < AXES; ++axis) unsure.push_back(part->variance(axis, k));
    }
  }
  std::vector<double> gone(models);
  std::vector<std::int64_t> matched(ages), outside(ages), paired(ages);
  Doubles lost(models), both({ages, PARTS, models, models}), gain({ages, PARTS, models});
  std::fill(lost.mutable_data(), lost.mutable_data() + models, 0.0);
  std::fill(both.mutable_data(), both.mutable_data() + both.size(), 0.0);
  std::fill(gain.mutable_data(), gain.mutable_data() + gain.size(), 0.0);
  for (py::ssize_t age = 0; age < ages; ++age) {
    const auto& [mean, variance, known, seconds] = told[age];
    const Outlooks outlook(mean, variance, seconds);
    if (outlook.models != models) throw py::value_error("told: of other models");
    expect_shape("known", known, {outlook.count});
    const auto share = [&](py::ssize_t model, py::ssize_t part) {
      return shares.data()[(model * PARTS + part) * ages + age];
    };
    std::vector<Mixture> places;
    std::vector<Foretold> boxes;
    for (py::ssize_t i = 0; i < outlook.count; ++i) {
      places.push_back(outlook.centre(i, share));
      const Mixture& place = places.back();
      boxes.push_back({{place.mean[0], place.mean[1]}, {outlook.side(i, 0, share), outlook.side(i, 1, share)}});
    }
    const std::vector<py::ssize_t> same = nearest(boxes, things);
    for (std::size_t i = 0; i < same.size(); ++i) {
      if (same[i] < 0) continue;
      const Foretold& thing = things[same[i]];
      const double x = thing.middle[0] - boxes[i].middle[0], y = thing.middle[1] - boxes[i].middle[1];
      const double xx = places[i].own[0] * scales[age] + unsure[AXES * same[i]], xy = places[i].both * scales[age],
                   yy = places[i].own[1] * scales[age] + unsure[AXES * same[i] + 1];
      ++matched[age];
      outside[age] += yy * (x * x) - 2 * xy * x * y + xx * (y * y) > ELLIPSE * (xx * yy - xy * xy);
    }
    std::vector<std::pair<py::ssize_t, py::ssize_t>> pairs;
    for (py::ssize_t k = 0; k < seen.count; ++k) {
      const std::int64_t* row = std::find(known.data(), known.data() + outlook.count, numbers.data()[k]);
      if (row != known.data() + outlook.count) pairs.emplace_back(row - known.data(), k);
    }
    paired[age] = static_cast<std::int64_t>(pairs.size());
    const double often = std::sqrt(static_cast<double>(pairs.size()));
    for (const auto& [i, k] : pairs) {
      for (py::ssize_t part = 0; part < PARTS; ++part) {
        const double value = seen.value(part, k), spread = seen.variance(part, k);
        double least = std::numeric_limits<double>::infinity();
        for (py::ssize_t model = 0; model < models; ++model) {
          gone[model] = value - outlook.mean(model, part, i);
          const double far = gone[model] * gone[model];
          least = std::min(least, far);
          if (age > 0) continue;
          const double wide = outlook.variance(model, part, i) + spread;
          lost.mutable_data()[model] += 0.5 * (std::min(far / wide, MOST_SURPRISE) + std::log(wide));
        }
        const double harmless = part < AXES ? LEAST_STEP * std::exp(seen.value(AXES + part, k)) : LEAST_STEP;
        double weight = 1 / (spread + harmless * harmless);
        weight /= std::max(1.0, least * weight / MOST_SURPRISE);
        weight /= often;
        double* square = both.mutable_data() + (age * PARTS + part) * models * models;
        double* earned = gain.mutable_data() + (age * PARTS + part) * models;
        for (py::ssize_t model = 0; model < models; ++model) {
          const double counted = (gone[0] - gone[model]) * weight;
          earned[model] += counted * gone[0];
          for (py::ssize_t other = 0; other < models; ++other)
            square[model * models + other] += counted * (gone[0] - gone[other]);
        }
      }
    }
  }
  return {lost, matched, outside, paired, both, gain};
}

}  // namespace

void bind_outlook(py::module_& module) {
  module.def("motion_outlook", &motion_outlook, py::arg("mean"), py::arg("cov"), py::arg("log"), py::arg("log_cov"),
             py::arg("side"), py::arg("noise"));
  module.def("motion_foretold", &motion_foretold, py::arg("mean"), py::arg("variance"), py::arg("velocity_variance"),
             py::arg("shares"), py::arg("seconds"), py::arg("scale"));
  module.def("motion_judged", &motion_judged, py::arg("told"), py::arg("shares"), py::arg("scales"),
             py::arg("numbers"), py::arg("seen"), py::arg("others"));
}

}  // namespace semhier
