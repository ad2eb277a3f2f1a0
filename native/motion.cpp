// The filters of the living scene: what semhier_ros/scene/forecast.py and shares.py say in NumPy, model by model and
// axis by axis, in one call each.

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "clones.hpp"
#include "motion.hpp"

namespace semhier {
namespace {

Doubles copied(const Doubles& values) {
  Doubles copy(std::vector<py::ssize_t>(values.shape(), values.shape() + values.ndim()));
  std::copy(values.data(), values.data() + values.size(), copy.mutable_data());
  return copy;
}

/// `MotionBank._after`, to the bit. noise m,5: of each model the camera's variance, the standard deviations of an
/// object's own velocity and of its drift, in sides, the variance of its growth, and that of its drift. half, third:
/// seconds**2 / 2 and seconds**3 / 3.
std::tuple<Doubles, Doubles, Doubles, Doubles> motion_after(const Doubles& mean_before, const Doubles& cov_before,
                                                            const Doubles& log_before, const Doubles& log_cov_before,
                                                            const Doubles& side, const Doubles& noise, double seconds,
                                                            double half, double third) {
  const auto [models, count, width] = sizes_of(mean_before, cov_before);
  expect_shape("log", log_before, {models, 2, AXES, count});
  expect_shape("log_cov", log_cov_before, {models, 3, AXES, count});
  expect_shape("side", side, {count});
  expect_shape("noise", noise, {models, 5});
  Doubles means = copied(mean_before), covs = copied(cov_before), logs = copied(log_before),
          log_covs = copied(log_cov_before);
  for (py::ssize_t model = 0; model < models; ++model) {
    const double* told = noise.data() + 5 * model;
    const double camera = told[0], own = told[1], drift = told[2], growth = told[3], log_drift = told[4];
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      double* mean = means.mutable_data() + (model * AXES + axis) * width;
      double* cov = covs.mutable_data() + (model * AXES + axis) * width * width;
      for (py::ssize_t i = 1; i <= count; ++i) {
        mean[i] += seconds * (mean[count + i] + mean[0]);
        double* row = cov + i * width;
        const double* speed = cov + (count + i) * width;
        for (py::ssize_t j = 0; j < width; ++j) row[j] += seconds * (speed[j] + cov[j]);
      }
      for (py::ssize_t i = 0; i < width; ++i) {
        double* row = cov + i * width;
        for (py::ssize_t j = 1; j <= count; ++j) row[j] += seconds * (row[count + j] + row[0]);
      }
      cov[0] += camera * seconds;
      for (py::ssize_t i = 1; i <= count; ++i) {
        cov[i] += camera * half;
        cov[i * width] += camera * half;
        for (py::ssize_t j = 1; j <= count; ++j) cov[i * width + j] += camera * third;
      }
      for (py::ssize_t i = 0; i < count; ++i) {
        const double size = side.data()[i], restless = (own * size) * (own * size);
        const double drifting = (drift * size) * (drift * size);
        const py::ssize_t place = 1 + i, speed = 1 + count + i;
        cov[speed * width + speed] += restless * seconds;
        cov[speed * width + place] += restless * half;
        cov[place * width + speed] += restless * half;
        cov[place * width + place] += restless * third + drifting * seconds;
      }
      double* log = logs.mutable_data() + (model * 2 * AXES + axis) * count;
      double* log_cov = log_covs.mutable_data() + (model * 3 * AXES + axis) * count;
      for (py::ssize_t i = 0; i < count; ++i) {
        const py::ssize_t rate = AXES * count + i, last = 2 * AXES * count + i;
        log[i] += seconds * log[rate];
        log_cov[i] += seconds * (2 * log_cov[rate] + seconds * log_cov[last]) + growth * third + log_drift * seconds;
        log_cov[rate] += seconds * log_cov[last] + growth * half;
        log_cov[last] += growth * seconds;
      }
    }
  }
  return {means, covs, logs, log_covs};
}

/// `MotionBank.weights`.
std::vector<double> believed(const Doubles& record) {
  if (record.size() < 1) throw py::value_error("record: of no model");
  std::vector<double> weights(record.data(), record.data() + record.size());
  const double best = *std::max_element(weights.begin(), weights.end());
  double sum = 0.0;
  for (double& weight : weights) sum += weight = std::exp(weight - best);
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// Makes of a positive definite matrix k,k, row by row, the lower triangle whose product with its transpose it is.
void cholesky(std::vector<double>& matrix, py::ssize_t side) {
  for (py::ssize_t i = 0; i < side; ++i) {
    double* row = matrix.data() + i * side;
    for (py::ssize_t j = 0; j <= i; ++j) {
      const double* other = matrix.data() + j * side;
      double rest = row[j];
      for (py::ssize_t t = 0; t < j; ++t) rest -= row[t] * other[t];
      if (j < i) {
        row[j] = rest / other[j];
      } else if (rest > 0) {
        row[i] = std::sqrt(rest);
      } else {
        throw py::value_error("cov: not positive definite where something was seen");
      }
    }
  }
}

/// Takes from a row four others that are `width` apart, each times one of factors that are `step` apart.
[[gnu::always_inline]] inline void take_four(double* __restrict row, py::ssize_t length, const double* __restrict others,
                                             py::ssize_t width, const double* factors, py::ssize_t step) {
  const double a = factors[0], b = factors[step], c = factors[2 * step], d = factors[3 * step];
  const double *one = others, *two = one + width, *three = two + width, *four = three + width;
  for (py::ssize_t j = 0; j < length; ++j) row[j] = row[j] - a * one[j] - b * two[j] - c * three[j] - d * four[j];
}

/// Of what is gone (k), its covariances with the state (`cross` k,width) and the lower triangle k,k of its own: makes of
/// the first two what the triangle times, in their place, and takes what they explain from mean and cov.
SEMHIER_CLONES void explain(const double* triangle, py::ssize_t count, py::ssize_t width, double* gone, double* cross,
                            double* mean, double* cov) {
  for (py::ssize_t i = 0; i < count; ++i) {
    const double* lower = triangle + i * count;
    double* row = cross + i * width;
    for (py::ssize_t t = 0; t < i; ++t) gone[i] -= lower[t] * gone[t];
    py::ssize_t t = 0;
    for (; t + 4 <= i; t += 4) take_four(row, width, cross + t * width, width, lower + t, 1);
    for (; t < i; ++t) {
      const double *other = cross + t * width, factor = lower[t];
      for (py::ssize_t j = 0; j < width; ++j) row[j] -= factor * other[j];
    }
    gone[i] /= lower[i];
    for (py::ssize_t j = 0; j < width; ++j) row[j] /= lower[i];
  }
  for (py::ssize_t i = 0; i < width; ++i) {
    double* row = cov + i * width;
    for (py::ssize_t j = 0; j < i; ++j) row[j] = (row[j] + cov[j * width + i]) / 2;
    for (py::ssize_t t = 0; t < count; ++t) mean[i] += gone[t] * cross[t * width + i];
    py::ssize_t t = 0;
    for (; t + 4 <= count; t += 4) take_four(row, i + 1, cross + t * width, width, cross + t * width + i, width);
    for (; t < count; ++t) {
      const double *other = cross + t * width, factor = other[i];
      for (py::ssize_t j = 0; j <= i; ++j) row[j] -= factor * other[j];
    }
    for (py::ssize_t j = 0; j < i; ++j) cov[j * width + i] = row[j];
  }
}

/// `forecast._observed` in place, but for rounding. place: one or two rows (parts) of `count` numbers of the state, which
/// add up to what values count,2 with their variances are of.
void observe(const Sizes& sizes, Doubles& means, Doubles& covs, py::ssize_t parts, py::ssize_t count,
             const std::int64_t* place, const double* values, const double* variance) {
  const py::ssize_t width = sizes.width;
  std::vector<double> gone(count), cross(count * width), spread(count * count);
  for (py::ssize_t filter = 0; filter < sizes.models * AXES; ++filter) {
    const py::ssize_t axis = filter % AXES;
    double *mean = means.mutable_data() + filter * width, *cov = covs.mutable_data() + filter * width * width;
    std::fill(cross.begin(), cross.end(), 0.0);
    for (py::ssize_t i = 0; i < count; ++i) {
      double expected = 0.0;
      for (py::ssize_t part = 0; part < parts; ++part) {
        const std::int64_t at = place[part * count + i];
        expected += mean[at];
        for (py::ssize_t j = 0; j < width; ++j) cross[i * width + j] += cov[at * width + j];
      }
      gone[i] = values[i * AXES + axis] - expected;
    }
    for (py::ssize_t i = 0; i < count; ++i) {
      for (py::ssize_t j = 0; j < count; ++j) {
        double sum = 0.0;
        for (py::ssize_t part = 0; part < parts; ++part) sum += cross[i * width + place[part * count + j]];
        spread[i * count + j] = sum;
      }
      double& own = spread[i * count + i];
      const double unsure = variance[i * AXES + axis];
      own += unsure * std::max(gone[i] * gone[i] / (own + unsure) / MOST_SURPRISE, 1.0);
    }
    cholesky(spread, count);
    explain(spread.data(), count, width, gone.data(), cross.data(), mean, cov);
  }
}

/// `forecast._observed`, but for rounding: mean and cov. places: one or two rows j,k.
std::tuple<Doubles, Doubles> motion_observed(const Doubles& mean_before, const Doubles& cov_before,
                                             const Array<std::int64_t>& places, const Doubles& values,
                                             const Doubles& variance) {
  const Sizes sizes = sizes_of(mean_before, cov_before);
  expect_shape("places", places, {ANY, ANY});
  const py::ssize_t parts = places.shape(0), count = places.shape(1);
  expect_shape("values", values, {count, AXES});
  expect_shape("variance", variance, {count, AXES});
  expect_numbers("places", places, sizes.width);
  Doubles means = copied(mean_before), covs = copied(cov_before);
  observe(sizes, means, covs, parts, count, places.data(), values.data(), variance.data());
  return {means, covs};
}

/// `MotionBank._updated`, but for rounding: mean, cov, log, log_cov and side.
std::tuple<Doubles, Doubles, Doubles, Doubles, Doubles> motion_updated(
    const Doubles& mean_before, const Doubles& cov_before, const Doubles& log_before, const Doubles& log_cov_before,
    const Doubles& side_before, const Doubles& record, const Array<std::int64_t>& rows,
    const Array<std::int64_t>& places, const std::vector<Doubles>& seen_parts) {
  const Sizes sizes = sizes_of(mean_before, cov_before);
  const py::ssize_t models = sizes.models, count = sizes.objects, seen_again = rows.size();
  expect_shape("log", log_before, {models, 2, AXES, count});
  expect_shape("log_cov", log_cov_before, {models, 3, AXES, count});
  expect_shape("side", side_before, {count});
  expect_shape("record", record, {models});
  expect_shape("rows", rows, {ANY});
  expect_shape("places", places, {seen_again});
  const SeenThings seen(seen_parts);
  expect_numbers("rows", rows, count);
  expect_numbers("places", places, seen.count);
  Doubles means = copied(mean_before), covs = copied(cov_before), logs = copied(log_before),
          log_covs = copied(log_cov_before), lengths = copied(side_before);
  std::vector<std::int64_t> middles;
  std::vector<double> values, variance;
  for (py::ssize_t k = 0; k < seen_again; ++k) {
    middles.push_back(1 + rows.data()[k]);
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      values.push_back(seen.value(axis, places.data()[k])), variance.push_back(seen.variance(axis, places.data()[k]));
    }
  }
  observe(sizes, means, covs, 1, seen_again, middles.data(), values.data(), variance.data());
  const std::vector<double> weights = believed(record);
  for (py::ssize_t k = 0; k < seen_again; ++k) {
    const std::int64_t row = rows.data()[k], place = places.data()[k];
    double mean = 0.0;
    for (py::ssize_t model = 0; model < models; ++model) {
      for (py::ssize_t axis = 0; axis < AXES; ++axis) {
        double* log = logs.mutable_data() + (model * 2 * AXES + axis) * count + row;
        double* log_cov = log_covs.mutable_data() + (model * 3 * AXES + axis) * count + row;
        double &rate = log[AXES * count], &both = log_cov[AXES * count], &last = log_cov[2 * AXES * count];
        const double gone = seen.value(AXES + axis, place) - *log;
        double spread = *log_cov + seen.variance(AXES + axis, place);
        spread *= std::max(gone * gone / spread / MOST_SURPRISE, 1.0);
        const double value = *log_cov, shared = both;
        *log += value / spread * gone, rate += shared / spread * gone;
        *log_cov = value - value * value / spread;
        both = shared - value * shared / spread;
        last -= shared * shared / spread;
        mean += weights[model] * *log;
      }
    }
    lengths.mutable_data()[row] = std::exp(mean / 2);
  }
  return {means, covs, logs, log_covs, lengths};
}

/// `MotionBank.distances`: n,k twice.
std::tuple<Doubles, Doubles> motion_distances(const Doubles& mean, const Doubles& cov, const Doubles& log,
                                              const Doubles& log_cov, const Doubles& record,
                                              const std::vector<Doubles>& seen_parts, double gate) {
  const auto [models, count, width] = sizes_of(mean, cov);
  expect_shape("log", log, {models, 2, AXES, count});
  expect_shape("log_cov", log_cov, {models, 3, AXES, count});
  expect_shape("record", record, {models});
  const SeenThings seen(seen_parts);
  const std::vector<double> weights = believed(record);
  Doubles far({count, seen.count}), cost({count, seen.count});
  const double none = std::numeric_limits<double>::infinity();
  std::vector<double> told(models * PARTS), unsure(models * PARTS);
  for (py::ssize_t i = 0; i < count; ++i) {
    for (py::ssize_t model = 0; model < models; ++model) {
      for (py::ssize_t axis = 0; axis < AXES; ++axis) {
        const py::ssize_t filter = model * AXES + axis, at = model * PARTS + axis;
        told[at] = mean.data()[filter * width + 1 + i];
        unsure[at] = cov.data()[(filter * width + 1 + i) * width + 1 + i];
        told[at + AXES] = log.data()[(model * 2 * AXES + axis) * count + i];
        unsure[at + AXES] = log_cov.data()[(model * 3 * AXES + axis) * count + i];
      }
    }
    for (py::ssize_t k = 0; k < seen.count; ++k) {
      double best = none, away = none;
      const auto surely_beyond = [&](py::ssize_t at) {
        const double gone = seen.value(at % PARTS, k) - told[at];
        return gone * gone > 1.000001 * gate * (unsure[at] + seen.variance(at % PARTS, k));
      };
      bool near = false;  // whether any model needs more than a look at one part
      for (py::ssize_t model = 0; model < models && !near; ++model) {
        near = true;
        for (py::ssize_t part = 0; part < PARTS && near; ++part) near = !surely_beyond(model * PARTS + part);
      }
      for (py::ssize_t model = 0; model < models && near; ++model) {
        double distance = 0.0, spreads = 1.0;
        for (py::ssize_t axis = 0; axis < AXES; ++axis) {
          const py::ssize_t at = model * PARTS + axis;
          const double spread = unsure[at] + seen.variance(axis, k), gone = seen.value(axis, k) - told[at];
          const double log_spread = unsure[at + AXES] + seen.variance(AXES + axis, k);
          const double grown = seen.value(AXES + axis, k) - told[at + AXES];
          distance += gone * gone / spread + grown * grown / log_spread;
          spreads *= spread * log_spread;
        }
        const double price = distance + std::log(spreads) - 2 * std::log(std::max(weights[model], 1e-3));
        if (price < best) best = price, away = distance;
      }
      far.mutable_data()[i * seen.count + k] = away < gate ? away : none;
      cost.mutable_data()[i * seen.count + k] = away < gate ? best : none;
    }
  }
  return {far, cost};
}

/// `shares.nearest_mixture`, to the bit: of systems N the shares N,m. sets s,m: rows of 0 and 1.
Doubles nearest_mixture(const Doubles& both, const Doubles& gain, const Doubles& sets) {
  expect_shape("gain", gain, {ANY, ANY});
  const py::ssize_t systems = gain.shape(0), most = gain.shape(1);
  expect_shape("both", both, {systems, most, most});
  expect_shape("sets", sets, {ANY, most});
  Doubles shares({systems, most});
  const py::ssize_t width = most + 2;
  std::vector<double> system(most * width), found(most);
  for (py::ssize_t one = 0; one < systems; ++one) {
    const double *square = both.data() + one * most * most, *wanted = gain.data() + one * most;
    double least = std::numeric_limits<double>::infinity(), *chosen = shares.mutable_data() + one * most;
    std::fill(chosen, chosen + most, 0.0);
    for (py::ssize_t set = 0; set < sets.shape(0); ++set) {
      const double* inside = sets.data() + set * most;
      for (py::ssize_t i = 0; i < most; ++i) {
        double* row = system.data() + i * width;
        for (py::ssize_t j = 0; j < most; ++j) row[j] = square[i * most + j] * (inside[i] * inside[j]);
        row[i] += 1.0 - inside[i];
        row[most] = wanted[i] * inside[i], row[most + 1] = inside[i];
      }
      for (py::ssize_t i = 0; i + 1 < most; ++i) {
        const double* row = system.data() + i * width;
        for (py::ssize_t j = i + 1; j < most; ++j) {
          double* other = system.data() + j * width;
          const double factor = other[i] / row[i];
          for (py::ssize_t k = i + 1; k < width; ++k) other[k] -= factor * row[k];
        }
      }
      for (py::ssize_t i = most - 1; i >= 0; --i) {
        double* row = system.data() + i * width;
        row[most] /= row[i], row[most + 1] /= row[i];
        for (py::ssize_t j = 0; j < i; ++j) {
          double* other = system.data() + j * width;
          other[most] -= other[i] * row[most], other[most + 1] -= other[i] * row[most + 1];
        }
      }
      double sum = 0.0, alike = 0.0, gained = 0.0;
      for (py::ssize_t i = 0; i < most; ++i) sum += system[i * width + most], alike += system[i * width + most + 1];
      const double excess = (sum - 1.0) / alike;
      bool allowed = true;
      for (py::ssize_t i = 0; i < most; ++i) {
        found[i] = system[i * width + most] - excess * system[i * width + most + 1];
        allowed = allowed && found[i] >= -1e-9;
        gained += found[i] * wanted[i];
      }
      const double cost = -gained - excess;
      if (allowed && cost < least) {
        least = cost;
        std::copy(found.begin(), found.end(), chosen);
      }
    }
    double sum = 0.0;
    for (py::ssize_t i = 0; i < most; ++i) sum += chosen[i] = std::max(chosen[i], 0.0);
    for (py::ssize_t i = 0; i < most; ++i) chosen[i] /= sum;
  }
  return shares;
}

}  // namespace

void bind_motion(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name); };
  module.def("motion_after", &motion_after, exact("mean"), exact("cov"), exact("log"), exact("log_cov"), exact("side"),
             exact("noise"), py::arg("seconds"), py::arg("half"), py::arg("third"));
  module.def("motion_observed", &motion_observed, exact("mean"), exact("cov"), exact("places"), exact("values"),
             exact("variance"));
  module.def("motion_updated", &motion_updated, exact("mean"), exact("cov"), exact("log"), exact("log_cov"),
             exact("side"), exact("record"), exact("rows"), exact("places"), exact("seen"));
  module.def("motion_distances", &motion_distances, exact("mean"), exact("cov"), exact("log"), exact("log_cov"),
             exact("record"), exact("seen"), py::arg("gate"));
  module.def("nearest_mixture", &nearest_mixture, exact("both"), exact("gain"), exact("sets"));
}

}  // namespace semhier
