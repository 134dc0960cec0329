/* What geometry.in and control.in say, in atomic units. */
#ifndef ASI_INPUTS_H
#define ASI_INPUTS_H

#define MAX_ATOMS 512
#define MAX_ORBITALS (9 * MAX_ATOMS)

typedef struct {
    int n_atoms;
    int numbers[MAX_ATOMS];
    double positions[3 * MAX_ATOMS]; /* Bohr */
    double lattice[9];               /* Bohr, rows */
    int periodic;
    double unpaired; /* sum of initial_moment */
    double charge;
    int spin_collinear;
    int method;      /* 1: GFN1-xTB, 2: GFN2-xTB, 3: IPEA1-xTB */
    int max_iter;    /* sc_iter_limit */
    double kt;       /* occupation_type width, Ha */
    int forces, stress, postprocess_anyway;
} Inputs;

/* Read both files of the current folder.  Returns 0, or 1 with the reason in `problem`. */
int read_inputs(Inputs *inputs, char problem[256]);

#endif
