// Records of Python (dataclasses with slots) as kernels read and make them: field by field, without a call of Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace semhier {

namespace py = pybind11;

// What `object` is or raises what Python has raised instead.
inline py::object owned(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

// A field by its name.
class Field {
 public:
  explicit Field(const char* name) : name_(owned(PyUnicode_InternFromString(name)).release().ptr()) {}

  py::object of(const py::handle& record) const { return owned(PyObject_GetAttr(record.ptr(), name_)); }

  // Also where the dataclass is frozen.
  void set(const py::handle& record, const py::object& value) const {
    if (PyObject_GenericSetAttr(record.ptr(), name_, value.ptr()) != 0) throw py::error_already_set();
  }

 private:
  PyObject* name_;  // kept for as long as the process runs
};

// A record of a class with these fields; its __init__, which sets each of them by a call, is left out.
inline py::object make_record(const py::type& type, std::initializer_list<std::pair<const Field&, const py::object&>> fields) {
  auto* const made = reinterpret_cast<PyTypeObject*>(type.ptr());
  if (made->tp_new == nullptr) throw py::type_error("a class that makes no records");
  const py::object record = owned(made->tp_new(made, py::tuple().ptr(), nullptr));
  for (const auto& [field, value] : fields) field.set(record, value);
  return record;
}

// A tuple, read in place: to copy what stands in it costs more than all that is done with it.
class Tuple {
 public:
  explicit Tuple(const py::object& field) {
    if (!py::isinstance<py::tuple>(field)) throw py::type_error("a field that is no tuple");
    values_ = py::reinterpret_borrow<py::tuple>(field);
  }

  std::size_t size() const { return values_.size(); }
  PyObject* at(std::size_t place) const { return PyTuple_GET_ITEM(values_.ptr(), static_cast<py::ssize_t>(place)); }
  Tuple below(std::size_t place) const { return Tuple(py::reinterpret_borrow<py::object>(at(place))); }

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

 private:
  py::tuple values_;
};

// Fields of `codec.reading.Detection`.
struct DetectionFields {
  Field id{"id"}, box{"box"}, path{"path"}, names{"names"}, scores{"scores"}, others{"others"}, velocity{"velocity"},
      said{"said"};

  static const DetectionFields& get() {
    static const DetectionFields fields;
    return fields;
  }
};

inline py::object number(double value) { return owned(PyFloat_FromDouble(value)); }
inline py::object number(std::int64_t value) { return owned(PyLong_FromLongLong(value)); }

// A tuple of `count` things, each as `made` gives it for its place. One of which no circle of references can begin is
// left to itself by the garbage collector, as it would find out by and by.
template <class Made>
py::object tuple_of(std::size_t count, const Made& made) {
  py::object found = owned(PyTuple_New(static_cast<py::ssize_t>(count)));
  bool tracked = count == 0;  // the empty tuple is one for all
  for (std::size_t place = 0; place < count; ++place) {
    py::object one = made(place);
    tracked = tracked || PyObject_GC_IsTracked(one.ptr());
    PyTuple_SET_ITEM(found.ptr(), static_cast<py::ssize_t>(place), one.release().ptr());
  }
  if (!tracked) PyObject_GC_UnTrack(found.ptr());
  return found;
}

// A node of a level and its chance, as `Detection.others` has them.
using Other = std::pair<std::int64_t, double>;

inline py::object others_of(const std::vector<Other>& others) {
  return tuple_of(others.size(), [&](std::size_t rank) {
    return tuple_of(2, [&](std::size_t part) { return part ? number(others[rank].second) : number(others[rank].first); });
  });
}

inline py::object numbers_of(std::initializer_list<double> values) {
  return tuple_of(values.size(), [&](std::size_t place) { return number(values.begin()[place]); });
}

}  // namespace semhier
