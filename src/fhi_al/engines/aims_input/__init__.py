"""FHI-aims' input files: geometry.in, control.in and species defaults.  Text in, text out."""
