"""A training of which rank 1 fails, while rank 0 waits for it."""

import os
import time

if os.environ["RANK"] == "1":
    raise ValueError("the second half of the rows is empty")
time.sleep(600)
