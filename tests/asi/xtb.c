/* tblite's C API: prototypes as in its public header, looked up in the wheel's extension module. */
#include "xtb.h"
#include "generated.h"

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef void *Handle;

/* The constructors of a method take an optional configuration since tblite 0.8; NULL where older. */
#define TBLITE_API(X)                                                                          \
    X(Handle, new_error, (void))                                                               \
    X(void, delete_error, (Handle *))                                                          \
    X(int, check_error, (Handle))                                                              \
    X(void, get_error, (Handle, char *, const int *))                                          \
    X(Handle, new_context, (void))                                                             \
    X(void, delete_context, (Handle *))                                                        \
    X(int, check_context, (Handle))                                                            \
    X(void, get_context_error, (Handle, char *, const int *))                                  \
    X(void, set_context_verbosity, (Handle, int))                                              \
    X(Handle, new_structure,                                                                   \
      (Handle, int, const int *, const double *, const double *, const int *, const double *, \
       const bool *))                                                                          \
    X(void, delete_structure, (Handle *))                                                      \
    X(Handle, new_gfn1_calculator, (Handle, Handle, const void *))                             \
    X(Handle, new_gfn2_calculator, (Handle, Handle, const void *))                             \
    X(Handle, new_ipea1_calculator, (Handle, Handle, const void *))                            \
    X(void, delete_calculator, (Handle *))                                                     \
    X(void, set_calculator_max_iter, (Handle, Handle, int))                                    \
    X(void, set_calculator_temperature, (Handle, Handle, double))                              \
    X(Handle, new_spin_polarization, (Handle, Handle, Handle, double))                         \
    X(void, calculator_push_back, (Handle, Handle, Handle *))                                  \
    X(Handle, new_result, (void))                                                              \
    X(void, delete_result, (Handle *))                                                         \
    X(void, get_singlepoint, (Handle, Handle, Handle, Handle))                                 \
    X(void, get_result_energy, (Handle, Handle, double *))                                     \
    X(void, get_result_gradient, (Handle, Handle, double *))                                   \
    X(void, get_result_virial, (Handle, Handle, double *))                                     \
    X(void, get_result_charges, (Handle, Handle, double *))                                    \
    X(void, get_result_number_of_orbitals, (Handle, Handle, int *))                            \
    X(void, get_result_orbital_occupations, (Handle, Handle, double *))

#define DECLARE(type, name, arguments) static type(*name) arguments;
TBLITE_API(DECLARE)

static Handle library, last_result; /* last_result: kept for a warm start only */

int xtb_load(char problem[256]) {
    if (library) return 0;
    library = dlopen(TBLITE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(problem, 256, "%s", dlerror());
        return 1;
    }
#define LOOK_UP(type, name, arguments)                                    \
    if (!(name = (type(*) arguments)dlsym(library, "tblite_" #name))) {   \
        snprintf(problem, 256, "tblite_" #name " is not in the library"); \
        return 1;                                                         \
    }
    TBLITE_API(LOOK_UP)
    return 0;
}

void xtb_unload(void) {
    if (last_result) delete_result(&last_result);
    last_result = NULL;
}

static double volume(const double *a) {
    return fabs(a[0] * (a[4] * a[8] - a[5] * a[7]) - a[1] * (a[3] * a[8] - a[5] * a[6]) +
                a[2] * (a[3] * a[7] - a[4] * a[6]));
}

static Handle new_calculator(const Inputs *in, Handle context, Handle structure) {
    Handle calculator = in->method == 1   ? new_gfn1_calculator(context, structure, NULL)
                        : in->method == 2 ? new_gfn2_calculator(context, structure, NULL)
                                          : new_ipea1_calculator(context, structure, NULL);
    set_calculator_max_iter(context, calculator, in->max_iter);
    set_calculator_temperature(context, calculator, in->kt);
    if (in->spin_collinear) {
        Handle container = new_spin_polarization(context, structure, calculator, 1.0);
        calculator_push_back(context, calculator, &container);
    }
    return calculator;
}

/* TS of the electrons in Ha.  The occupations are those of two spins, whatever was computed. */
static double entropy(const Inputs *in, Handle error, Handle from) {
    double occupations[2 * MAX_ORBITALS], sum = 0.0;
    int n_orbitals = 0;
    get_result_number_of_orbitals(error, from, &n_orbitals);
    if (n_orbitals > MAX_ORBITALS) return NAN;
    get_result_orbital_occupations(error, from, occupations);
    for (int i = 0; i < 2 * n_orbitals; i++) {
        const double f = occupations[i];
        if (f > 0.0 && f < 1.0) sum -= f * log(f) + (1.0 - f) * log(1.0 - f);
    }
    return in->kt * sum;
}

static void fetch(const Inputs *in, Handle error, Handle from, Result *result) {
    double virial[9] = {0};
    get_result_energy(error, from, &result->energy);
    result->entropy = entropy(in, error, from);
    get_result_gradient(error, from, result->forces);
    get_result_charges(error, from, result->charges);
    for (int i = 0; i < 3 * in->n_atoms; i++) result->forces[i] = -result->forces[i];
    if (in->periodic) {
        get_result_virial(error, from, virial);
        for (int i = 0; i < 9; i++) result->stress[i] = virial[i] / volume(in->lattice);
    }
}

int xtb_single_point(const Inputs *in, int warm, Result *result, char problem[512]) {
    const int length = 512, unpaired = (int)lround(in->unpaired);
    const bool periodic[3] = {in->periodic, in->periodic, in->periodic};
    int failed = 1;
    Handle error = new_error(), context = new_context(), calculator = NULL;
    set_context_verbosity(context, 0);
    Handle structure = new_structure(error, in->n_atoms, in->numbers, in->positions, &in->charge,
                                     &unpaired, in->lattice, periodic);
    Handle computed = warm && last_result ? last_result : new_result();
    last_result = NULL;
    result->converged = 0;
    if (check_error(error)) {
        get_error(error, problem, &length);
    } else {
        calculator = new_calculator(in, context, structure);
        if (!check_context(context)) get_singlepoint(context, structure, calculator, computed);
        if (check_context(context)) {
            get_context_error(context, problem, &length);
        } else {
            fetch(in, error, computed, result);
            failed = check_error(error);
            if (failed) get_error(error, problem, &length);
            result->converged = !failed;
        }
    }
    if (warm && !failed) last_result = computed;
    else delete_result(&computed);
    if (calculator) delete_calculator(&calculator);
    if (structure) delete_structure(&structure);
    delete_context(&context);
    delete_error(&error);
    return failed;
}
