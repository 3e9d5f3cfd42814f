"""Container images of trainings: references, and the job variables by which a work pool runs them."""
