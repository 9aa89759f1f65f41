"""Judge an untouched neural-lam by other kernels, and with lost precision.

``python tests/kernels`` checks all references with each set of kernels that
the machine has: all must use at most half of each tolerance. Then precision is
lost in several ways: each must make each reference fail. ``--device cuda``
does the same on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

MOST_HARMLESS = 0.5
LEAST_HARM = 2.0
CAPABILITIES = ["default", "avx2", "avx512"]
OLDEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
# Variables of a process, and its number of threads.
ON_CPU = {
    "as it is": ({}, 1),
    **{
        f"torch for {name}": ({"ATEN_CPU_CAPABILITY": name}, 1)
        for name in CAPABILITIES
    },
    "oneDNN for SSE41": ({"DNNL_MAX_CPU_ISA": "SSE41"}, 1),
    "MKL for any CPU": ({"MKL_CBWR": "COMPATIBLE"}, 1),
    "all three for any CPU": (OLDEST, 1),
    "two threads": ({}, 2),
}
ON_CUDA = {
    "as it is": ({}, 1),
    "TF32 asked for": ({"NVIDIA_TF32_OVERRIDE": "1"}, 1),
}


def main():
    """Measure in processes of their own, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("names", nargs="*", help="references (default: all)")
    # How this file runs itself.
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--harm", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        from measuring import measure

        from pytest_nlam_compat.errors import CompatError

        try:
            found = measure(
                options.device,
                options.threads,
                harm=options.harm,
                names=options.names,
            )
        except CompatError as error:
            sys.exit(str(error))
        print(json.dumps(found))
        return 0
    settings = ON_CPU if options.device == "cpu" else ON_CUDA
    broken, harm = [], {}
    best = CAPABILITIES[-1]
    for number, (name, (variables, threads)) in enumerate(settings.items()):
        wanted = variables.get("ATEN_CPU_CAPABILITY")
        if wanted in CAPABILITIES[CAPABILITIES.index(best) + 1 :]:
            print(f"{name}: not on this machine")
            continue
        found = run(options, variables, threads, harm=number == 0)
        if number == 0:
            harm = found["harm"]
            # A CPU without AVX has other names for what it has.
            kernels = found["kernels"].lower()
            best = kernels if kernels in CAPABILITIES else CAPABILITIES[0]
        print(f"{name} ({found['kernels']})")
        for what, shares in found["harmless"].items():
            share, line = largest(shares)
            if what in found["row"]:
                alone, _ = largest(found["row"][what])
                line += f"; of the row float32 alone {alone:.2g}"
            print(f"  {what}: {line}", flush=True)
            if not share <= MOST_HARMLESS:
                broken.append(f"{name}, {what}: {line}")
    print("harm: least and median share of the tolerance")
    for what, shares in harm.items():
        reference = min(shares, key=shares.__getitem__)
        least, median = shares[reference], statistics.median(shares.values())
        line = f"{what}: {least:.3g} ({reference}), {median:.3g}"
        print(f"  {line}")
        if not least >= LEAST_HARM:
            broken.append(line)
    print(*(f"BROKEN {line}" for line in broken), sep="\n")
    return int(bool(broken))


def run(options, variables, threads, *, harm):
    """Measure in a process with these variables."""
    command = [sys.executable, __file__, "--threads", str(threads)]
    command += ["--device", options.device, *(["--harm"] if harm else [])]
    done = subprocess.run(
        [*command, *options.names],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def largest(shares):
    """Return the largest share, and a line that says of which reference."""
    reference = max(shares, key=shares.__getitem__)
    share = shares[reference]
    median = statistics.median(shares.values())
    return share, f"{share:.2g} ({reference}), median {median:.2g}"


if __name__ == "__main__":
    sys.exit(main())
