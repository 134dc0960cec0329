/* Read geometry.in and control.in as FHI-aims would, for the few keywords xTB has a meaning for. */
#include "inputs.h"
#include "generated.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SPECIES 32
#define MAX_TOKENS 8
#define NAME 64

typedef struct {
    int n;
    char name[MAX_SPECIES][NAME];
    int nucleus[MAX_SPECIES];
} SpeciesTable;

/* Split a line at blanks, comments taken off; returns the number of tokens. */
static int tokens_of(char *line, char *tokens[MAX_TOKENS]) {
    int n = 0;
    line[strcspn(line, "#\n\r")] = '\0';
    for (char *t = strtok(line, " \t"); t && n < MAX_TOKENS; t = strtok(NULL, " \t")) tokens[n++] = t;
    return n;
}

static double number(const char *text) {
    char copy[NAME];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *c = copy; *c; c++)
        if (*c == 'd' || *c == 'D') *c = 'e';
    return strtod(copy, NULL);
}

static int is_true(const char *text) { return strstr(text, "true") != NULL || strcmp(text, "T") == 0; }

static int method_of(const char *xc) {
    if (strcmp(xc, "gfn1") == 0) return 1;
    if (strcmp(xc, "gfn2") == 0) return 2;
    if (strcmp(xc, "ipea1") == 0) return 3;
    return 0;
}

static int control_line(Inputs *in, SpeciesTable *species, char **t, int n, char problem[256]) {
    const char *key = t[0];
    if (n < 2) return 0;
    if (!strcmp(key, "xc")) {
        in->method = method_of(t[1]);
        if (in->method == 0) {
            snprintf(problem, 256, "control.in: xc %s: expected gfn1, gfn2 or ipea1", t[1]);
            return 1;
        }
    } else if (!strcmp(key, "charge")) in->charge = number(t[1]);
    else if (!strcmp(key, "spin")) in->spin_collinear = strcmp(t[1], "collinear") == 0;
    else if (!strcmp(key, "sc_iter_limit")) in->max_iter = atoi(t[1]);
    else if (!strcmp(key, "occupation_type") && n > 2) in->kt = number(t[2]) / HARTREE_EV;
    else if (!strcmp(key, "compute_forces")) in->forces = is_true(t[1]);
    else if (!strcmp(key, "compute_analytical_stress")) in->stress = is_true(t[1]);
    else if (!strcmp(key, "postprocess_anyway")) in->postprocess_anyway = is_true(t[1]);
    else if (!strcmp(key, "species")) {
        if (species->n == MAX_SPECIES) {
            snprintf(problem, 256, "control.in: more than %d species", MAX_SPECIES);
            return 1;
        }
        snprintf(species->name[species->n], NAME, "%s", t[1]);
        species->nucleus[species->n++] = 0;
    } else if (!strcmp(key, "nucleus") && species->n > 0)
        species->nucleus[species->n - 1] = (int)lround(number(t[1]));
    return 0;
}

static int nucleus_of(const SpeciesTable *species, const char *name) {
    for (int i = 0; i < species->n; i++)
        if (!strcmp(species->name[i], name)) return species->nucleus[i];
    return 0;
}

static int read_control(Inputs *in, SpeciesTable *species, char problem[256]) {
    char line[1024], *t[MAX_TOKENS];
    FILE *file = fopen("control.in", "r");
    if (!file) {
        snprintf(problem, 256, "control.in: no such file in the current folder");
        return 1;
    }
    int bad = 0;
    while (!bad && fgets(line, sizeof line, file)) {
        int n = tokens_of(line, t);
        if (n > 0) bad = control_line(in, species, t, n, problem);
    }
    fclose(file);
    return bad;
}

static int geometry_line(Inputs *in, const SpeciesTable *species, int *n_vectors, char **t, int n,
                         char problem[256]) {
    if (!strcmp(t[0], "lattice_vector") && n > 3 && *n_vectors < 3) {
        for (int k = 0; k < 3; k++) in->lattice[3 * *n_vectors + k] = number(t[1 + k]) / BOHR_A;
        in->periodic = ++*n_vectors == 3;
    } else if (!strcmp(t[0], "initial_moment") && n > 1) {
        in->unpaired += number(t[1]);
    } else if (!strcmp(t[0], "atom") && n > 4) {
        int a = in->n_atoms++;
        if (a == MAX_ATOMS) {
            snprintf(problem, 256, "geometry.in: more than %d atoms", MAX_ATOMS);
            return 1;
        }
        for (int k = 0; k < 3; k++) in->positions[3 * a + k] = number(t[1 + k]) / BOHR_A;
        in->numbers[a] = nucleus_of(species, t[4]);
        if (in->numbers[a] == 0) {
            snprintf(problem, 256, "control.in: no species data for %.60s", t[4]);
            return 1;
        }
    }
    return 0;
}

int read_inputs(Inputs *in, char problem[256]) {
    SpeciesTable species = {0};
    char line[1024], *t[MAX_TOKENS];
    memset(in, 0, sizeof *in);
    in->method = 2;
    in->max_iter = 250;
    in->kt = DEFAULT_KT_EV / HARTREE_EV;
    if (read_control(in, &species, problem)) return 1;
    FILE *file = fopen("geometry.in", "r");
    if (!file) {
        snprintf(problem, 256, "geometry.in: no such file in the current folder");
        return 1;
    }
    int bad = 0, n_vectors = 0;
    while (!bad && fgets(line, sizeof line, file)) {
        int n = tokens_of(line, t);
        if (n > 0) bad = geometry_line(in, &species, &n_vectors, t, n, problem);
    }
    fclose(file);
    if (!bad && in->n_atoms == 0) {
        snprintf(problem, 256, "geometry.in: no atoms");
        return 1;
    }
    return bad;
}
