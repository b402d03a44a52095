"""Peers on the card at hand, those that are installed: PyTorch, cuML, implicit. Prints rows of a Markdown table.

Shapes and data are those of benches/gpu.rs (points around centres; ratings with few popular items). Times are medians in
milliseconds, by the card's own events, after a warm-up.
"""

import time


def median(values):
    return sorted(values)[len(values) // 2]


def row(peer, what, shape, ms):
    print(f"| {peer} | {what} | {shape} | {ms:.3f} |", flush=True)


def with_torch():
    try:
        import torch
    except ImportError:
        print("\nPyTorch is not installed here.")
        return
    torch.backends.cuda.matmul.allow_tf32 = False

    def timed(work, repeats=10):
        work()
        torch.cuda.synchronize()
        times = []
        for _ in range(repeats):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        return median(times)

    for rows, numbers, count in [
        (1_000_000, 16, 16),
        (10_000_000, 16, 16),
        (10_000_000, 32, 64),
        (10_000_000, 64, 100),
        (1_000_000, 8, 8),
        (1_000_000, 32, 32),
    ]:
        centres = torch.rand(count, numbers, device="cuda") * 6 - 3
        x = centres[torch.randint(count, (rows,), device="cuda")] + torch.rand(rows, numbers, device="cuda") * 2 - 1

        def step():
            scores = (centres * centres).sum(1) - 2 * (x @ centres.T)
            labels = scores.argmin(1)
            sums = torch.zeros_like(centres).index_add_(0, labels, x)
            return sums / torch.bincount(labels, minlength=count).clamp(min=1)[:, None]

        step_compiled = torch.compile(step)
        row("PyTorch", "k-means step", f"({rows}, {numbers}, {count})", timed(step))
        try:
            row("PyTorch, compiled", "k-means step", f"({rows}, {numbers}, {count})", timed(step_compiled))
        except Exception as e:  # noqa: BLE001: a compiler may be missing
            print(f"\ntorch.compile fails: {type(e).__name__}")
        del x
        torch.cuda.empty_cache()
    for rows, numbers in [(10_000_000, 32)]:
        x = torch.rand(rows, numbers, device="cuda", dtype=torch.float64)
        w = torch.rand(rows, 1, device="cuda", dtype=torch.float64)
        row("PyTorch", "weighted Gram, f64", f"({rows}, {numbers})", timed(lambda: (x * w).T @ x))
        del x, w
        torch.cuda.empty_cache()
    users, items = torch.rand(138_000, 128, device="cuda"), torch.rand(27_000, 128, device="cuda")

    def best():
        for part in users.split(8192):
            (part @ items.T).topk(20)

    row("PyTorch", "product and top-k, nothing left out", "138,000 × 27,000, 128 factors, best 20", timed(best, 5))


def with_cuml():
    try:
        import cupy
        from cuml.cluster import KMeans
    except ImportError:
        print("\ncuML is not installed here.")
        return
    for rows, numbers, count in [(1_000_000, 16, 16), (10_000_000, 16, 16), (10_000_000, 32, 64)]:
        x = cupy.random.rand(rows, numbers, dtype=cupy.float32)
        start = x[:count].copy()
        times = []
        for _ in range(3):
            model = KMeans(n_clusters=count, init=start, n_init=1, max_iter=20, tol=0.0)
            begun = time.perf_counter()
            model.fit(x)
            cupy.cuda.Device().synchronize()
            times.append((time.perf_counter() - begun) * 1e3 / max(model.n_iter_, 1))
        row("cuML", "k-means iteration", f"({rows}, {numbers}, {count})", median(times))


def with_implicit():
    try:
        import implicit
        import implicit.gpu
        import numpy
        import scipy.sparse
    except ImportError:
        print("\nimplicit is not installed here.")
        return
    if not implicit.gpu.HAS_CUDA:
        print("\nimplicit is installed here without its GPU part.")
        return
    rng = numpy.random.default_rng(3)
    user = rng.integers(0, 138_000, 10_000_000)
    item = (rng.random(10_000_000) * rng.random(10_000_000) * rng.random(10_000_000) * 27_000).astype(int)
    ratings = scipy.sparse.csr_matrix((numpy.ones(len(user), dtype=numpy.float32), (user, item)), shape=(138_000, 27_000))
    for factors in (64, 128, 256):
        model = implicit.als.AlternatingLeastSquares(factors=factors, iterations=1, use_gpu=True)
        times = []
        model.fit(ratings, show_progress=False)
        for _ in range(5):
            model.fit(ratings, show_progress=False, callback=lambda _i, seconds, *_: times.append(seconds * 1e3))
        row("implicit", "ALS iteration", f"138,000 × 27,000, {factors} factors", median(times))


print("| peer | what | shape | median, ms |\n|---|---|---|---|")
for peer in (with_torch, with_cuml, with_implicit):
    try:
        peer()
    except Exception as e:  # noqa: BLE001: one peer that fails does not stop the others
        print(f"\n{peer.__name__} failed: {type(e).__name__}: {e}")
