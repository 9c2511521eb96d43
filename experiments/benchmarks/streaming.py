"""Compare training from disk with training from memory: speed and memory.

The variants take turns, each in its own process. The speed is the median of the runs.
The memory is that of the training process, without the workers:

    python -m experiments.benchmarks.streaming --dataset fashion_mnist --steps 300
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time

VARIANTS = {
    "in memory": {},
    "streamed, threads": {"stream": True},
    "streamed, 1 worker": {"stream": True, "workers": 1},
    "streamed, 2 workers": {"stream": True, "workers": 2},
}


def own_megabytes() -> float:
    """Return the memory of this process, without mapped files."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["RssAnon"].split()[0]) / 1024


def run(settings: dict, options: argparse.Namespace, channel) -> None:
    import jax
    import optax

    from jaxkd import data, distillers, models, training

    dataset = data.load(options.dataset, **settings)
    program = training.compile_program(
        lambda rngs: models.build(
            "mlp",
            num_classes=dataset.num_classes,
            image_shape=dataset.image_shape,
            width=32,
            rngs=rngs,
        ),
        dataset,
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=options.batch_size,
    )
    loop, losses, memory = program.start(0), [], []
    with program.feeding():
        order = program.order(loop)
        for step in range(options.steps + 1):
            if step and step % program.steps_per_epoch == 0:
                order = program.order(loop)
            loop, report = program.training.advance(loop, order)
            losses.append(report.metrics["loss"])
            if step == 0:  # exclude compilation and the start of the workers
                jax.block_until_ready(report)
                started = time.perf_counter()
            if step % max(1, options.steps // 10) == 0:
                memory.append(own_megabytes())
        jax.block_until_ready(losses)
        seconds = time.perf_counter() - started
    result = {
        "images_per_second": options.steps * options.batch_size / seconds,
        "megabytes": memory,
        "losses": [float(loss) for loss in losses[:100]],
    }
    channel.send(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--steps", type=int, default=937)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    results = {name: [] for name in VARIANTS}
    context = multiprocessing.get_context("spawn")
    for _ in range(options.runs):
        for name, settings in VARIANTS.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(settings, options, theirs))
            process.start()
            theirs.close()
            results[name].append(ours.recv())
            process.join()
    print(
        f"{options.dataset}, {options.steps} steps of {options.batch_size}, "
        f"{os.cpu_count()} cores"
    )
    reference = results["in memory"][0]["losses"]
    for name, runs in results.items():
        speed = statistics.median(run["images_per_second"] for run in runs)
        line = {
            "variant": name,
            "images_per_second": round(speed),
            "first_losses_equal": all(run["losses"] == reference for run in runs),
            "megabytes": [round(m) for m in runs[0]["megabytes"]],
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
