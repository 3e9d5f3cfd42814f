"""Train a small network on some ranks, and say when the first step was done and how fast the others were.

    torchrun --nproc-per-node 2 steady_steps.py torch OUTCOME STEPS
    horovodrun -np 2 -H localhost:2 --gloo python steady_steps.py horovod OUTCOME STEPS

Written as for these two, with nothing of Trainyard. Rank 0 leaves a JSON file at OUTCOME.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

SETTLING_STEPS = 20


def main(library: str, outcome: str, steps: int) -> None:
    torch.manual_seed(0)
    network: torch.nn.Module = torch.nn.Sequential(
        torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(),
        torch.nn.Linear(512, 10),
    )  # fmt: skip
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    if library == "horovod":
        import horovod.torch as hvd

        hvd.init()
        rank = hvd.rank()
        hvd.broadcast_parameters(network.state_dict(), root_rank=0)
        optimiser = hvd.DistributedOptimizer(optimiser, named_parameters=network.named_parameters())
    else:
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
        network = torch.nn.parallel.DistributedDataParallel(network)

    inputs, labels = torch.randn(256, 256), torch.randint(0, 10, (256,))
    first_step_at = began = 0.0
    for step in range(1 + SETTLING_STEPS + steps):
        loss = functional.cross_entropy(network(inputs), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step == 0:
            first_step_at = time.time()
        if step == SETTLING_STEPS:
            began = time.perf_counter()
    steps_per_s = steps / (time.perf_counter() - began)
    if rank == 0:
        told = {
            "first_step_at": first_step_at,
            "steps_per_s": steps_per_s,
            "threads": torch.get_num_threads(),
        }
        Path(outcome).write_text(json.dumps(told))
    if library == "horovod":
        hvd.shutdown()
    else:
        del network  # first: with the last hold on the group it may wait for ever (pytorch issue 56297)
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
