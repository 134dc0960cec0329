/* One xTB single point through tblite's C API, which is dlopened from tblite's Python wheel. */
#ifndef ASI_XTB_H
#define ASI_XTB_H

#include "inputs.h"

typedef struct {
    int converged;
    double energy;                  /* Ha; free energy */
    double entropy;                 /* TS, Ha */
    double forces[3 * MAX_ATOMS];   /* Ha/Bohr */
    double stress[9];               /* Ha/Bohr^3 */
    double charges[MAX_ATOMS];      /* e */
} Result;

/* Load tblite.  Returns 0, or 1 with the reason in `problem`. */
int xtb_load(char problem[256]);

/* Compute `in`.  `warm` starts the SCF from the last wave function, else it starts cold.
 * Returns 0 if there is a result; 1, leaving `result` as it was but for `converged`, if not. */
int xtb_single_point(const Inputs *in, int warm, Result *result, char problem[512]);

void xtb_unload(void);

#endif
