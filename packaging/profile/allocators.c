/* pinnace_allocators: counts what Python asks its three allocators for. Only in the profiling variant.
 *
 * install() puts a counter before each allocator; counts() gives, by domain ("raw", "mem", "obj"), a tuple of
 * (allocations, reallocations, frees, bytes asked for, allocations by size: up to 16, 64, 256, 512 bytes, 4 KiB, 64 KiB, more).
 * Blocks that were there before install() are freed through it too, so frees may be more than allocations. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define SIZES 7
static const size_t limits[SIZES - 1] = {16, 64, 256, 512, 4096, 65536};
static const char *const names[3] = {"raw", "mem", "obj"};

struct counter {
    PyMemAllocatorEx below;
    unsigned long long allocations, reallocations, frees, bytes, sizes[SIZES];
};

static struct counter counters[3];
static int installed;

#define ADD(what, number) __atomic_fetch_add(&(what), (number), __ATOMIC_RELAXED)

static void count(struct counter *counter, size_t size)
{
    int class = 0;
    while (class < SIZES - 1 && size > limits[class])
        class++;
    ADD(counter->bytes, size);
    ADD(counter->sizes[class], 1);
}

static void *counted_malloc(void *context, size_t size)
{
    struct counter *counter = context;
    ADD(counter->allocations, 1);
    count(counter, size);
    return counter->below.malloc(counter->below.ctx, size);
}

static void *counted_calloc(void *context, size_t number, size_t size)
{
    struct counter *counter = context;
    ADD(counter->allocations, 1);
    count(counter, number * size);
    return counter->below.calloc(counter->below.ctx, number, size);
}

static void *counted_realloc(void *context, void *block, size_t size)
{
    struct counter *counter = context;
    ADD(counter->reallocations, 1);
    count(counter, size);
    return counter->below.realloc(counter->below.ctx, block, size);
}

static void counted_free(void *context, void *block)
{
    struct counter *counter = context;
    ADD(counter->frees, 1);
    counter->below.free(counter->below.ctx, block);
}

static PyObject *install(PyObject *self, PyObject *unused)
{
    static const PyMemAllocatorDomain domains[3] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    (void)self, (void)unused;
    for (int each = 0; each < 3 && !installed; each++) {
        PyMemAllocatorEx hook = {&counters[each], counted_malloc, counted_calloc, counted_realloc, counted_free};
        PyMem_GetAllocator(domains[each], &counters[each].below);
        PyMem_SetAllocator(domains[each], &hook);
    }
    installed = 1;
    Py_RETURN_NONE;
}

static PyObject *counts(PyObject *self, PyObject *unused)
{
    PyObject *found = PyDict_New();
    (void)self, (void)unused;
    for (int each = 0; found && each < 3; each++) {
        struct counter now = counters[each];
        unsigned long long *sizes = now.sizes;
        PyObject *row = Py_BuildValue("KKKK(KKKKKKK)", now.allocations, now.reallocations, now.frees, now.bytes, sizes[0], sizes[1],
                                      sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]);
        if (!row || PyDict_SetItemString(found, names[each], row))
            Py_CLEAR(found);
        Py_XDECREF(row);
    }
    return found;
}

static PyMethodDef methods[] = {
    {"install", install, METH_NOARGS, "Count from now on."},
    {"counts", counts, METH_NOARGS, "By domain: allocations, reallocations, frees, bytes, and allocations by size."},
    {0},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "pinnace_allocators", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit_pinnace_allocators(void)
{
    return PyModule_Create(&module);
}
