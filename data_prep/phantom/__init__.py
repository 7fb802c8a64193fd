"""The phantom: synthetic head CT with real anatomy, the data set that everyone has."""

from data_prep.phantom.cohort import write_phantom
from data_prep.phantom.patient import PhantomPatient, make_patient

__all__ = ["PhantomPatient", "make_patient", "write_phantom"]
