"""Small runs as the releases wrote them, and the inputs that they fed."""

import torch
from saved_runs import namespace, saved_run
from torch.nn.functional import linear

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.migrations import HISTORY, Statistics, apply, plan
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS

D, NX, NY, MESH, HIDDEN = 3, 3, 2, 2, 5
N = NX * NY
STATICS = ["surface_geopotential", "border_mask", "x", "y"]
WEIGHT, BIAS = "grid_embedder.0.weight", "grid_embedder.0.bias"
# Node ix * NY + iy of the newer order, as a node of the old one.
OLD_NODE = torch.tensor([iy * NX + ix for ix in range(NX) for iy in range(NY)])


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def raw_data():
    """Raw features on the nodes of the newer order."""
    raw = random(N, 4)
    raw[:, 0] = 1000 * raw[:, 0] + 3000
    raw[:, 1] = torch.arange(N) % 2
    return {
        "states": random(N, 2 * D, seed=1),
        # t-1, t, t+1 of flux, sine and cosine of hour and year, by node.
        "forcing": random(5, 3, N, seed=2),
        "water": random(N, seed=3).abs(),
        "static": raw,
    }


def statistics(data):
    raw = data["static"]
    return Statistics(
        {
            "static_mean": raw.mean(0),
            "static_std": raw.std(0, correction=0),
            "static_min": raw.min(0)[0],
            "static_max": raw.max(0)[0],
            "state_std": random(D).abs(),
            "state_diff_mean": random(D),
            "state_diff_std": random(D).abs(),
        },
        STATICS,
    )


def inputs_of_v02(data):
    """As its WeatherDataset and graph model put them together."""
    raw = data["static"]
    largest = raw[:, 2:].abs().max()
    height = raw[:, 0]
    height = (height - height.min()) / (height.max() - height.min())
    by_time = data["forcing"].permute(2, 1, 0).reshape(N, 15)
    return torch.cat(
        (
            data["states"],
            data["water"][:, None],
            by_time,
            raw[:, 2:] / largest,
            height[:, None],
            raw[:, 1:2],
        ),
        dim=1,
    )


def inputs_of_v03(data):
    water = data["water"].expand(1, 3, N)
    series = torch.cat((data["forcing"][:1], water, data["forcing"][1:]))
    by_feature = series.permute(2, 0, 1).reshape(N, 18)
    return torch.cat((data["states"], by_feature, data["static"]), dim=1)


def inputs_of_today(data):
    inputs = inputs_of_v03(data)
    raw = data["static"]
    inputs[:, -4:] = (raw - raw.mean(0)) / raw.std(0, correction=0)
    return inputs


def graph(first_node, order="y-major"):
    grid = OLD_NODE if order == "y-major" else torch.arange(N)
    with_edge = torch.tensor([node for node in grid if node >= first_node])
    return {
        "g2m_edge_index": torch.stack((with_edge + MESH, with_edge % MESH)),
        "m2g_edge_index": torch.stack((grid % MESH, grid + MESH)),
        "mesh_features": [torch.zeros(MESH, 2)],
    }


def run_of(release, data, first_node=0, **more):
    width = 2 * D + (20 if release < "0.3.0" else 22)
    shapes = {
        WEIGHT: (HIDDEN, width),
        BIAS: (HIDDEN,),
        "output_map.0.weight": (HIDDEN, HIDDEN),
        "output_map.0.bias": (HIDDEN,),
        "output_map.2.weight": (D, HIDDEN),
        "output_map.2.bias": (D,),
        "mesh_embedder.0.weight": (HIDDEN, 2),
    }
    if release >= "0.4.0":
        shapes = dict.fromkeys(CLAMP_BUFFERS, (0,)) | shapes
    return saved_run(
        shapes,
        statistics=statistics(data),
        grid_shape=(NX, NY),
        graph=graph(first_node),
        hyper_parameters=hyper_parameters(release, **more),
    )


def hyper_parameters(release, kind="npyfilesmeps"):
    args = {"model": "graph_lam", "loss": "wmse"}
    if release < "0.3.0":
        args |= {"n_workers": 4, "ar_steps": 1, "data_config": "a.yaml"}
    if release == "0.1.0":
        return {"args": namespace(**args | {"loss": "mae"})}
    args |= {"output_std": False, "wandb_project": "neural_lam"}
    if release == "0.2.0":
        return {"args": namespace(**args)}
    if release >= "0.4.0":
        args |= {"logger": "wandb", "logger_project": args.pop("wandb_project")}
    kinds = InertObject(
        GlobalRef("neural_lam.config", "DatastoreKindStr"), (kind,)
    )
    selection = namespace(kind=kinds if release < "0.5.0" else kind)
    config = namespace(datastore=selection, training=namespace())
    return {"args": namespace(**args), "config": config}


def to(target, release, run, steps=HISTORY):
    return apply(run, plan(run, target, origin=release, migrations=steps))


def embedded(run, inputs, prefix="forecaster.predictor."):
    weights = run.state_dict
    return linear(inputs, weights[prefix + WEIGHT], weights[prefix + BIAS])


def senders(run):
    """Grid nodes as 0.7 sees them."""
    return run.graph["g2m_edge_index"][0] - MESH
