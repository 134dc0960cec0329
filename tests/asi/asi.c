/* The ASI interface (flavour 1, as FHI-aims) on xTB: rank 0 computes, every rank must join.
 *
 * Environment, for tests: lists count the ASI_run calls of a process from 1.
 *   ASI_FAIL_AT=2,5    these calls report an unconverged SCF
 *   ASI_NAN_AT=3       this call gives NaN forces
 *   ASI_ENERGY_AT=3    this call's energy is 10,000 eV too high
 *   ASI_ABORT_AT=4     this call ends in MPI_Abort,
 *   ASI_EXIT_AT=4      in exit(7),
 *   ASI_SEGFAULT_AT=4  or in a segmentation fault
 *   ASI_DIE_ON=1       on this rank (0 if not given)
 *   ASI_SLEEP_MS=50    every call takes so much longer
 *   ASI_LOG=file       rank 0 appends one line per ASI_run
 *   ASI_WARM_START=1   an SCF starts from the last wave function
 *   ASI_WITHOUT_ENTROPY=1  the energy given is E, not the free energy E - TS
 */
#define _DEFAULT_SOURCE /* usleep */
#include "generated.h"
#include "inputs.h"
#include "xtb.h"

#include <math.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MPI_Comm comm;
static int rank, initialised, n_runs;
static Inputs inputs;
static Result result;
static FILE *own_log; /* on rank 0 */

static void stop(const char *why) {
    fprintf(stderr, "ASI library, rank %d: %s\n", rank, why);
    fflush(stderr);
    MPI_Abort(comm, 7);
}

/* Is `n_runs` in the comma-separated list of this environment variable? */
static int is_listed(const char *variable) {
    const char *list = getenv(variable);
    while (list && *list) {
        char *end;
        if (strtol(list, &end, 10) == n_runs && end != list) return 1;
        list = *end ? end + 1 : end;
    }
    return 0;
}

void ASI_init(const char *input_path, const char *log_path, int fortran_comm) {
    char problem[256] = "";
    (void)input_path;
    comm = MPI_Comm_f2c((MPI_Fint)fortran_comm);
    MPI_Comm_rank(comm, &rank);
    if (initialised) stop("ASI_init was called twice without ASI_finalize");
    if (read_inputs(&inputs, problem)) stop(problem);
    if (rank == 0 && xtb_load(problem)) stop(problem);
    memset(&result, 0, sizeof result);
    initialised = 1;
    if (rank == 0) {
        own_log = fopen(log_path, "w");
        if (own_log) fprintf(own_log, "xTB method %d, %d atoms\n", inputs.method, inputs.n_atoms);
    }
    MPI_Barrier(comm);
}

void ASI_set_geometry(const double *coords, int n_atoms, const double *lattice) {
    if (n_atoms != inputs.n_atoms) stop("the number of atoms is not that of geometry.in");
    memcpy(inputs.positions, coords, 3 * n_atoms * sizeof *coords);
    if (lattice) memcpy(inputs.lattice, lattice, 9 * sizeof *lattice);
}

void ASI_set_atom_coords(const double *coords, int n_atoms) {
    ASI_set_geometry(coords, n_atoms, NULL);
}

static void require_same_geometry(void) {
    static double mine[3 * MAX_ATOMS + 9], zeroth[3 * MAX_ATOMS + 9];
    int differs, any = 0;
    memcpy(mine, inputs.positions, sizeof inputs.positions);
    memcpy(mine + 3 * MAX_ATOMS, inputs.lattice, sizeof inputs.lattice);
    memcpy(zeroth, mine, sizeof mine);
    MPI_Bcast(zeroth, 3 * MAX_ATOMS + 9, MPI_DOUBLE, 0, comm);
    differs = memcmp(zeroth, mine, sizeof mine) != 0;
    MPI_Allreduce(&differs, &any, 1, MPI_INT, MPI_MAX, comm);
    if (differs) stop("my geometry is not that of rank 0");
    if (any) MPI_Barrier(comm); /* the rank that differs aborts the job */
}

static void log_run(void) {
    const char *path = getenv("ASI_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "run %d converged %d energy %.17g\n", n_runs, result.converged, result.energy);
    fclose(file);
}

/* As FHI-aims prints them, in its own eV. */
static void print_energies(void) {
    const double ev = 27.2113845, free = result.energy * ev, ts = result.entropy * ev;
    fprintf(own_log, "  Energy and forces in a compact form:\n");
    fprintf(own_log, "  | Total energy uncorrected      :  %.15E eV\n", free + ts);
    fprintf(own_log, "  | Total energy corrected        :  %.15E eV  <-- only for metals\n",
            free + ts / 2);
    fprintf(own_log, "  | Electronic free energy        :  %.15E eV\n", free);
}

static void die_if_told(void) {
    const char *who = getenv("ASI_DIE_ON");
    if (rank != (who ? atoi(who) : 0)) return;
    if (is_listed("ASI_ABORT_AT")) stop("aborts at this call because ASI_ABORT_AT says so");
    if (is_listed("ASI_EXIT_AT")) exit(7);
    if (is_listed("ASI_SEGFAULT_AT")) *(volatile int *)NULL = 1;
}

void ASI_run(void) {
    char problem[512] = "";
    const char *sleep_ms = getenv("ASI_SLEEP_MS");
    n_runs++;
    require_same_geometry();
    if (own_log) {
        fprintf(own_log, "calculation %d begins\n", n_runs);
        fflush(own_log);
    }
    /* It dies in the middle: calls of other groups that began with this one are under way. */
    if (sleep_ms) usleep(500 * atoi(sleep_ms));
    die_if_told();
    if (sleep_ms) usleep(500 * atoi(sleep_ms));
    if (rank == 0) {
        const char *warm = getenv("ASI_WARM_START");
        if (is_listed("ASI_FAIL_AT")) {
            result.converged = 0;
            snprintf(problem, sizeof problem, "ASI_FAIL_AT");
        } else {
            xtb_single_point(&inputs, warm && !strcmp(warm, "1"), &result, problem);
        }
        if (is_listed("ASI_NAN_AT")) result.forces[0] = NAN;
        if (is_listed("ASI_ENERGY_AT")) result.energy += 1e4;
        if (own_log) {
            if (result.converged) print_energies();
            fprintf(own_log, "calculation %d: %s\n", n_runs, result.converged ? "done" : problem);
            fflush(own_log);
        }
        log_run();
        if (!result.converged) {
            fprintf(stderr, "ASI library: SCF not converged: %s\n", problem);
            if (!inputs.postprocess_anyway) stop("SCF not converged and no postprocess_anyway");
        }
    }
    /* As FHI-aims: after a failed SCF the numbers of the last good one are still there. */
    MPI_Bcast(&result, sizeof result, MPI_BYTE, 0, comm);
}

void ASI_finalize(void) {
    if (!initialised) stop("ASI_finalize without ASI_init");
    MPI_Barrier(comm);
    if (rank == 0) xtb_unload();
    if (own_log) fclose(own_log);
    own_log = NULL;
    initialised = 0;
}

int ASI_flavour(void) { return 1; }
int ASI_n_atoms(void) { return inputs.n_atoms; }
double ASI_energy(void) {
    const char *without = getenv("ASI_WITHOUT_ENTROPY");
    return without && !strcmp(without, "1") ? result.energy + result.entropy : result.energy;
}
const double *ASI_forces(void) { return inputs.forces ? result.forces : NULL; }
const double *ASI_stress(void) { return inputs.stress && inputs.periodic ? result.stress : NULL; }
const double *ASI_atomic_charges(int scheme) { return scheme == -1 ? result.charges : NULL; }
bool ASI_is_scf_converged(void) { return result.converged; }
bool ASI_is_hamiltonian_real(void) { return true; }
int ASI_get_basis_size(void) { return 0; }
int ASI_get_nspin(void) { return inputs.spin_collinear ? 2 : 1; }
int ASI_get_nkpts(void) { return 1; }
int ASI_get_n_local_ks(void) { return 0; }
int ASI_get_local_ks(int *pairs) { return (void)pairs, 0; }

/* Matrices and potentials are not exported: asi4py only looks these names up. */
void ASI_register_dm_callback(void *f, void *aux) { (void)f, (void)aux; }
void ASI_register_overlap_callback(void *f, void *aux) { (void)f, (void)aux; }
void ASI_register_hamiltonian_callback(void *f, void *aux) { (void)f, (void)aux; }
void ASI_register_external_potential(void *f, void *aux) { (void)f, (void)aux; }
void ASI_calc_esp(int n, const double *coords, double *potential, double *gradient) {
    (void)n, (void)coords, (void)potential, (void)gradient;
}
