import torch
from saved_runs import everything, same, saved_run


def mixed_run():
    return saved_run(
        {"w": (2, 2), "clamp_lower_idx": (1,)},
        graph={
            "g2m_edge_index": torch.zeros(2, 3, dtype=torch.int64),
            "mesh_features": [torch.zeros(2, 2), torch.zeros(1, 2)],
        },
    )


def single(run):
    return run.map_tensors(lambda t: t.float() if t.is_floating_point() else t)


def test_double_casts_weights_moments_and_graph_features():
    run = single(mixed_run())
    assert {t.dtype for t in everything(run).values()} == {torch.float32}
    double = run.double()
    assert {t.dtype for t in everything(double).values()} == {torch.float64}
    assert double.graph["g2m_edge_index"].dtype == torch.int64
    assert [t.dtype for t in double.graph["mesh_features"]] == [
        torch.float64
    ] * 2
    # Casting up and down again loses nothing.
    assert same(single(double), run)


def test_the_run_given_stays_as_it_is():
    run = mixed_run()
    single(run).double()
    assert same(run, mixed_run())
