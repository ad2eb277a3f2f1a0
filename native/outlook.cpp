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
constexpr double AGE_STEP = 0.2, ELLIPSE_STEP = 0.15, ELLIPSE_EAGER = 20.0, LEAST_BELIEF = 12.0;
constexpr double ELLIPSE_SCALES[] = {0.1, 25.0};

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
      const auto part = [&, models = models, count = count](Doubles& all, py::ssize_t power, py::ssize_t of) {
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

/// `MotionBank._near`.
std::vector<double> near_ages(const Doubles& ages, double seconds) {
  std::vector<double> later(ages.data(), ages.data() + ages.size()), counts(later.size());
  if (later.empty()) throw py::value_error("ages: none");
  for (std::size_t age = 1; age < later.size(); ++age) later[age] = std::max(later[age], later[age - 1]);
  const std::size_t after = std::upper_bound(later.begin(), later.end(), seconds) - later.begin();
  if (after == 0 || after == later.size()) {
    counts[after == 0 ? 0 : after - 1] = 1.0;
  } else {
    counts[after] = (seconds - later[after - 1]) / (later[after] - later[after - 1]);
    counts[after - 1] = 1.0 - counts[after];
  }
  return counts;
}

/// `MotionBank._mixed` at one age: shares m,4. values: ages,4,m.
std::vector<double> mixed(const Doubles& values, const std::vector<double>& near, py::ssize_t models) {
  expect_shape("values", values, {static_cast<py::ssize_t>(near.size()), PARTS, models});
  std::vector<double> shares(models * PARTS);
  const double* value = values.data();
  for (const double count : near)
    for (py::ssize_t part = 0; part < PARTS; ++part)
      for (py::ssize_t model = 0; model < models; ++model) shares[model * PARTS + part] += count * *value++;
  return shares;
}

/// `MotionBank.forecast`: `Forecast` but for the camera, and the shares m,4. values, ages and scales: of the records.
std::tuple<Doubles, Doubles, Doubles, Doubles, Doubles, Doubles> motion_foretold(
    const Doubles& mean, const Doubles& variance, const Doubles& velocity_variance, const Doubles& state_mean,
    const Doubles& values, const Doubles& ages, const Doubles& scales, double seconds) {
  const Outlooks outlook(mean, variance, seconds);
  const py::ssize_t models = outlook.models, count = outlook.count;
  expect_shape("velocity_variance", velocity_variance, {2, models, AXES, count});
  expect_shape("state_mean", state_mean, {models, AXES, 1 + 2 * count});
  expect_shape("ages", ages, {ANY});
  expect_shape("scales", scales, {ages.size()});
  const std::vector<double> near = near_ages(ages, seconds), shares = mixed(values, near, models);
  double scale = 0.0;
  for (std::size_t age = 0; age < near.size(); ++age) scale += near[age] * scales.data()[age];
  scale = std::exp(scale);
  const auto share = [&](py::ssize_t model, py::ssize_t part) { return shares[model * PARTS + part]; };
  Doubles centre({count, AXES}), velocity({count, AXES}), covariance({count, AXES, AXES}),
      velocity_covariance({count, AXES, AXES}), sides({count, AXES}), camera(AXES);
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
  for (py::ssize_t axis = 0; axis < AXES; ++axis) {
    double turning = 0.0;
    for (py::ssize_t model = 0; model < models; ++model)
      turning += share(model, axis) * state_mean.data()[(model * AXES + axis) * (1 + 2 * count)];
    camera.mutable_data()[axis] = turning;
  }
  return {centre, velocity, covariance, velocity_covariance, sides, camera};
}

/// A box with its middle and sides.
struct Foretold {
  double middle[AXES], side[AXES];

  /// Intersection over union.
  double shared(const Foretold& other) const {
    double inner = 1.0;
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      const double apart = std::abs(middle[axis] - other.middle[axis]);
      inner *= std::min(std::max((side[axis] + other.side[axis]) / 2 - apart, 0.0), std::min(side[axis], other.side[axis]));
      if (inner == 0.0) return 0.0;
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

/// `MotionBank._fit_ellipses` of one age.
void fit_ellipse(double& scale, std::int64_t& judged, std::int64_t matched, std::int64_t outside) {
  if (matched == 0) return;
  ++judged;
  const double eager = 1.0 + ELLIPSE_EAGER / static_cast<double>(judged), count = static_cast<double>(matched);
  const double step =
      ELLIPSE_STEP * std::min(eager, 4.0) * (static_cast<double>(outside) - 0.05 * count) / std::sqrt(count);
  scale = std::min(std::max(scale + step, std::log(ELLIPSE_SCALES[0])), std::log(ELLIPSE_SCALES[1]));
}

using OfOld = std::tuple<std::size_t, Doubles, Doubles, Array<std::int64_t>, double>;

/// `MotionBank._hold_against`: writes to record m, to what is kept of every age (ages, scales, judged), and to both and
/// gain, which `Shares` keeps. told: of every age its number, coefficients of the outlook, numbers of its objects, and
/// the seconds since. values: the shares. names: numbers of all objects, of which `rows` were seen as `places`.
void motion_judged(const std::vector<OfOld>& told, const Doubles& values, Doubles& record, Doubles& ages,
                   Doubles& scales, Array<std::int64_t>& judged, Doubles& both, Doubles& gain,
                   const Array<std::int64_t>& names, const Array<std::int64_t>& rows,
                   const Array<std::int64_t>& places, const std::vector<Doubles>& seen_parts, double fade) {
  const SeenThings seen(seen_parts);
  expect_shape("record", record, {ANY});
  expect_shape("ages", ages, {ANY});
  expect_shape("names", names, {ANY});
  expect_shape("rows", rows, {ANY});
  const py::ssize_t models = record.size(), known_ages = ages.size(), paired_most = rows.size();
  expect_shape("scales", scales, {known_ages});
  expect_shape("judged", judged, {known_ages});
  expect_shape("both", both, {known_ages, PARTS, models, models});
  expect_shape("gain", gain, {known_ages, PARTS, models});
  expect_shape("places", places, {paired_most});
  expect_numbers("rows", rows, names.size());
  expect_numbers("places", places, seen.count);
  std::vector<std::int64_t> order(places.data(), places.data() + paired_most);  // what was given to an object comes first
  std::vector<bool> given(seen.count);
  for (const std::int64_t place : order) given[place] = true;
  for (std::int64_t place = 0; place < seen.count; ++place)
    if (!given[place]) order.push_back(place);
  std::vector<Foretold> things;
  for (const std::int64_t k : order)
    things.push_back({{seen.value(0, k), seen.value(1, k)}, {std::exp(seen.value(2, k)), std::exp(seen.value(3, k))}});
  std::vector<double> gone(models), lost(models), square(PARTS * models * models), earned(PARTS * models);
  for (const auto& [number, mean, variance, known, seconds] : told) {
    const Outlooks outlook(mean, variance, seconds);
    if (outlook.models != models) throw py::value_error("told: of other models");
    if (static_cast<py::ssize_t>(number) >= known_ages) throw py::value_error("told: of an unknown age");
    expect_shape("known", known, {outlook.count});
    ages.mutable_data()[number] += AGE_STEP * (seconds - ages.data()[number]);
    const std::vector<double> shares = mixed(values, near_ages(ages, seconds), models);
    const auto share = [&](py::ssize_t model, py::ssize_t part) { return shares[model * PARTS + part]; };
    std::vector<Mixture> middles;
    std::vector<Foretold> boxes;
    for (py::ssize_t i = 0; i < outlook.count; ++i) {
      middles.push_back(outlook.centre(i, share));
      const Mixture& middle = middles.back();
      boxes.push_back({{middle.mean[0], middle.mean[1]}, {outlook.side(i, 0, share), outlook.side(i, 1, share)}});
    }
    const std::vector<py::ssize_t> same = nearest(boxes, things);
    const double scale = std::exp(scales.data()[number]);
    std::int64_t matched = 0, outside = 0;
    for (std::size_t i = 0; i < same.size(); ++i) {
      if (same[i] < 0) continue;
      const Foretold& thing = things[same[i]];
      const std::int64_t k = order[same[i]];
      const double x = thing.middle[0] - boxes[i].middle[0], y = thing.middle[1] - boxes[i].middle[1];
      const double xx = middles[i].own[0] * scale + seen.variance(0, k), xy = middles[i].both * scale,
                   yy = middles[i].own[1] * scale + seen.variance(1, k);
      ++matched;
      outside += yy * (x * x) - 2 * xy * x * y + xx * (y * y) > ELLIPSE * (xx * yy - xy * xy);
    }
    fit_ellipse(scales.mutable_data()[number], judged.mutable_data()[number], matched, outside);
    std::vector<std::pair<py::ssize_t, std::int64_t>> pairs;
    for (py::ssize_t k = 0; k < paired_most; ++k) {
      const std::int64_t *end = known.data() + outlook.count,
                         *row = std::find(known.data(), end, names.data()[rows.data()[k]]);
      if (row != end) pairs.emplace_back(row - known.data(), places.data()[k]);
    }
    const double often = std::sqrt(static_cast<double>(pairs.size()));
    std::fill(square.begin(), square.end(), 0.0);
    std::fill(earned.begin(), earned.end(), 0.0);
    for (const auto& [i, k] : pairs) {
      for (py::ssize_t part = 0; part < PARTS; ++part) {
        const double value = seen.value(part, k), spread = seen.variance(part, k);
        double least = std::numeric_limits<double>::infinity();
        for (py::ssize_t model = 0; model < models; ++model) {
          gone[model] = value - outlook.mean(model, part, i);
          const double far = gone[model] * gone[model];
          least = std::min(least, far);
          if (number > 0) continue;
          const double wide = outlook.variance(model, part, i) + spread;
          lost[model] += 0.5 * (std::min(far / wide, MOST_SURPRISE) + std::log(wide));
        }
        const double harmless = part < AXES ? LEAST_STEP * std::exp(seen.value(AXES + part, k)) : LEAST_STEP;
        double weight = 1 / (spread + harmless * harmless);
        weight /= std::max(1.0, least * weight / MOST_SURPRISE);
        weight /= often;
        for (py::ssize_t model = 0; model < models; ++model) {
          const double counted = (gone[0] - gone[model]) * weight;
          earned[part * models + model] += counted * gone[0];
          for (py::ssize_t other = 0; other < models; ++other)
            square[(part * models + model) * models + other] += counted * (gone[0] - gone[other]);
        }
      }
    }
    if (pairs.empty()) continue;
    const auto kept = [&](Doubles& all, const std::vector<double>& more) {
      double* one = all.mutable_data() + number * more.size();
      for (std::size_t at = 0; at < more.size(); ++at) one[at] = fade * one[at] + more[at];
    };
    kept(both, square), kept(gain, earned);
    if (number > 0) continue;
    double best = -std::numeric_limits<double>::infinity();
    for (py::ssize_t model = 0; model < models; ++model)
      best = std::max(best, record.mutable_data()[model] -= lost[model]);
    for (py::ssize_t model = 0; model < models; ++model)
      record.mutable_data()[model] = std::max(record.data()[model] - best, -LEAST_BELIEF);
  }
}

}  // namespace

void bind_outlook(py::module_& module) {
  module.def("motion_outlook", &motion_outlook, py::arg("mean"), py::arg("cov"), py::arg("log"), py::arg("log_cov"),
             py::arg("side"), py::arg("noise"));
  module.def("motion_foretold", &motion_foretold, py::arg("mean"), py::arg("variance"), py::arg("velocity_variance"),
             py::arg("state_mean"), py::arg("values"), py::arg("ages"), py::arg("scales"), py::arg("seconds"));
  const auto written = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("motion_judged", &motion_judged, py::arg("told"), py::arg("values"), written("record"), written("ages"),
             written("scales"), written("judged"), written("both"), written("gain"), py::arg("names"), py::arg("rows"),
             py::arg("places"), py::arg("seen"), py::arg("fade"));
}

}  // namespace semhier
