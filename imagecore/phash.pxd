cimport cython


@cython.locals(u="Py_ssize_t", v="Py_ssize_t", x="Py_ssize_t", y="Py_ssize_t", total="long long")
cdef int _transform(const unsigned char[:] gray, const long long[:] cosines, long long[:] rows, long long[:] out) except -1 nogil
