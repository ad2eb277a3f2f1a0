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

/// Of one filter's covariances before what they are so much later, but for what nothing foretells.
SEMHIER_CLONES void lead_on(const double* before, py::ssize_t count, double seconds, double* after) {
  const py::ssize_t width = 1 + 2 * count;
  for (py::ssize_t i = 0; i < width; ++i) {
    const double* old = before + i * width;
    double* row = after + i * width;
    if (i >= 1 && i <= count) {
      const double* speed = old + count * width;
      for (py::ssize_t j = 0; j < width; ++j) row[j] = old[j] + seconds * (speed[j] + before[j]);
    } else {
      std::copy(old, old + width, row);
    }
    for (py::ssize_t j = 1; j <= count; ++j) row[j] += seconds * (row[count + j] + row[0]);
  }
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
  Doubles means = copied(mean_before), covs({models, AXES, width, width}), logs = copied(log_before),
          log_covs = copied(log_cov_before);
  for (py::ssize_t model = 0; model < models; ++model) {
    const double* told = noise.data() + 5 * model;
    const double camera = told[0], own = told[1], drift = told[2], growth = told[3], log_drift = told[4];
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      double* mean = means.mutable_data() + (model * AXES + axis) * width;
      double* cov = covs.mutable_data() + (model * AXES + axis) * width * width;
      for (py::ssize_t i = 1; i <= count; ++i) mean[i] += seconds * (mean[count + i] + mean[0]);
      lead_on(cov_before.data() + (model * AXES + axis) * width * width, count, seconds, cov);
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

/// Takes from a row four others that are `pitch` apart, each times one of factors that are as far apart.
[[gnu::always_inline]] inline void take_four(double* __restrict row, py::ssize_t length, const double* __restrict others,
                                             const double* factors, py::ssize_t pitch) {
  const double a = factors[0], b = factors[pitch], c = factors[2 * pitch], d = factors[3 * pitch];
  if (a == 0 && b == 0 && c == 0 && d == 0) return;  // as where nothing but what is seen moves
  const double *one = others, *two = one + pitch, *three = two + pitch, *four = three + pitch;
  for (py::ssize_t j = 0; j < length; ++j) row[j] = row[j] - a * one[j] - b * two[j] - c * three[j] - d * four[j];
}

/// Takes from a row `count` others, each times its factor.
[[gnu::always_inline]] inline void take_all(double* __restrict row, py::ssize_t length, const double* __restrict others,
                                            const double* factors, py::ssize_t pitch, py::ssize_t count) {
  py::ssize_t t = 0;
  for (; t + 4 <= count; t += 4) take_four(row, length, others + t * pitch, factors + t * pitch, pitch);
  for (; t < count; ++t) {
    const double *other = others + t * pitch, factor = factors[t * pitch];
    for (py::ssize_t j = 0; j < length; ++j) row[j] -= factor * other[j];
  }
}

/// Rows of `count` things seen, `pitch` numbers each: covariances with each other (a positive definite matrix, of which
/// the upper triangle is read), then with the state's `width` numbers, then what is gone. Makes of them what explains
/// the same and hangs together no more (the inverse of the matrix's lower triangular root times the rest), and takes
/// what they explain from one filter's mean, and from its covariances before what they are after. scratch: pitch. False
/// where the matrix is not positive definite.
SEMHIER_CLONES bool explain(double* rows, py::ssize_t count, py::ssize_t pitch, py::ssize_t width, const double* before,
                            double* scratch, double* mean, double* after) {
  for (py::ssize_t i = 0; i < count; ++i) {
    double* row = rows + i * pitch;
    take_all(row + i, pitch - i, rows + i, rows + i, pitch, i);
    if (!(row[i] > 0)) return false;
    row[i] = std::sqrt(row[i]);
    for (py::ssize_t j = i + 1; j < pitch; ++j) row[j] /= row[i];
  }
  const double *cross = rows + count, *gone = cross + width;
  for (py::ssize_t t = 0; t < count; ++t)
    for (py::ssize_t i = 0; i < width; ++i) mean[i] += gone[t * pitch] * cross[t * pitch + i];
  for (py::ssize_t i = 0; i < width; ++i) {
    for (py::ssize_t j = i; j < width; ++j) scratch[j] = (before[i * width + j] + before[j * width + i]) / 2;
    take_all(scratch + i, width - i, cross + i, cross + i, pitch, count);
    for (py::ssize_t j = i; j < width; ++j) after[i * width + j] = after[j * width + i] = scratch[j];
  }
  return true;
}

/// `forecast._observed`, but for rounding: what it makes of cov; mean is changed. place: one or two rows (parts) of
/// `count` numbers of the state, which add up to what values count,2 with their variances are of.
Doubles observe(const Sizes& sizes, Doubles& means, const Doubles& cov_before, py::ssize_t parts, py::ssize_t count,
                const std::int64_t* place, const double* values, const double* variance) {
  const py::ssize_t width = sizes.width, pitch = (count + width + 1 + 3) / 4 * 4;
  Doubles covs({sizes.models, AXES, width, width});
  std::vector<double> rows(count * pitch), scratch(pitch);
  for (py::ssize_t filter = 0; filter < sizes.models * AXES; ++filter) {
    const py::ssize_t axis = filter % AXES;
    const double* cov = cov_before.data() + filter * width * width;
    double* mean = means.mutable_data() + filter * width;
    std::fill(rows.begin(), rows.end(), 0.0);
    for (py::ssize_t i = 0; i < count; ++i) {
      double *spread = rows.data() + i * pitch, *cross = spread + count, *gone = cross + width;
      double expected = 0.0;
      for (py::ssize_t part = 0; part < parts; ++part) {
        const std::int64_t at = place[part * count + i];
        expected += mean[at];
        for (py::ssize_t j = 0; j < width; ++j) cross[j] += cov[at * width + j];
      }
      *gone = values[i * AXES + axis] - expected;
      for (py::ssize_t j = 0; j <= i; ++j)
        for (py::ssize_t part = 0; part < parts; ++part) rows[j * pitch + i] += cross[place[part * count + j]];
      const double unsure = variance[i * AXES + axis];
      spread[i] += unsure * std::max(*gone * *gone / (spread[i] + unsure) / MOST_SURPRISE, 1.0);
    }
    if (!explain(rows.data(), count, pitch, width, cov, scratch.data(), mean, covs.mutable_data() + filter * width * width))
      throw py::value_error("cov: not positive definite where something was seen");
  }
  return covs;
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
  Doubles means = copied(mean_before);
  const Doubles covs = observe(sizes, means, cov_before, parts, count, places.data(), values.data(), variance.data());
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
  Doubles means = copied(mean_before), logs = copied(log_before), log_covs = copied(log_cov_before),
          lengths = copied(side_before);
  std::vector<std::int64_t> middles;
  std::vector<double> values, variance;
  for (py::ssize_t k = 0; k < seen_again; ++k) {
    middles.push_back(1 + rows.data()[k]);
    for (py::ssize_t axis = 0; axis < AXES; ++axis) {
      values.push_back(seen.value(axis, places.data()[k])), variance.push_back(seen.variance(axis, places.data()[k]));
    }
  }
  const Doubles covs = observe(sizes, means, cov_before, 1, seen_again, middles.data(), values.data(), variance.data());
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
  std::vector<py::ssize_t> inside;
  for (py::ssize_t one = 0; one < systems; ++one) {
    const double *square = both.data() + one * most * most, *wanted = gain.data() + one * most;
    double least = std::numeric_limits<double>::infinity(), *chosen = shares.mutable_data() + one * most;
    std::fill(chosen, chosen + most, 0.0);
    for (py::ssize_t set = 0; set < sets.shape(0); ++set) {
      inside.clear();  // what is not has no part in the system, and no share
      for (py::ssize_t i = 0; i < most; ++i)
        if (sets.data()[set * most + i] > 0) inside.push_back(i);
      for (const py::ssize_t i : inside) {
        double* row = system.data() + i * width;
        for (const py::ssize_t j : inside) row[j] = square[i * most + j];
        row[most] = wanted[i], row[most + 1] = 1.0;
      }
      for (auto i = inside.begin(); i != inside.end(); ++i) {
        const double* row = system.data() + *i * width;
        for (auto j = i + 1; j != inside.end(); ++j) {
          double* other = system.data() + *j * width;
          const double factor = other[*i] / row[*i];
          for (auto k = i + 1; k != inside.end(); ++k) other[*k] -= factor * row[*k];
          other[most] -= factor * row[most], other[most + 1] -= factor * row[most + 1];
        }
      }
      for (auto i = inside.rbegin(); i != inside.rend(); ++i) {
        double* row = system.data() + *i * width;
        row[most] /= row[*i], row[most + 1] /= row[*i];
        for (auto j = i + 1; j != inside.rend(); ++j) {
          double* other = system.data() + *j * width;
          other[most] -= other[*i] * row[most], other[most + 1] -= other[*i] * row[most + 1];
        }
      }
      double sum = 0.0, alike = 0.0, gained = 0.0;
      for (const py::ssize_t i : inside) sum += system[i * width + most], alike += system[i * width + most + 1];
      const double excess = (sum - 1.0) / alike;
      bool allowed = true;
      std::fill(found.begin(), found.end(), 0.0);
      for (const py::ssize_t i : inside) {
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
