//! The list of cases under Criterion, for before-and-after comparisons: `cargo bench -p attentive-benches -- FILTER`.

use attentive_benches::case::{Bound, Case, Unit, Workload};
use attentive_benches::cases;
use attentive_benches::data::Rng;
use attentive_benches::machine;
use attentive_kernels::Backend;
use criterion::{Criterion, Throughput};
use std::time::Duration;

fn main() {
    machine::pin(0);
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let backend = Backend::detect();
    for case in cases::all() {
        // The limits belong to the report of `perf`, which measures them beside each case.
        if case.bound != Bound::Itself {
            bench(&mut criterion, &case, backend);
        }
    }
    criterion.final_summary();
}

fn bench(criterion: &mut Criterion, case: &Case, backend: Backend) {
    let (kind, shape) = case.name.split_once('/').unwrap_or((&case.name, ""));
    let mut group = criterion.benchmark_group(kind);
    group.throughput(match case.unit {
        Unit::Gbytes => Throughput::Bytes(case.work as u64),
        Unit::Gflops | Unit::Gops | Unit::Tokens => Throughput::Elements(case.work as u64),
    });
    // Criterion calls the closure only where the filter chooses the case, and more than once.
    let mut prepared: Option<Box<dyn Workload>> = None;
    group.bench_function(format!("{shape}/{}", backend.name()), |bencher| {
        let workload = prepared.get_or_insert_with(|| {
            let mut workload = (case.prepare)(backend, &mut Rng::new(0))
                .unwrap_or_else(|error| panic!("{}: {error}", case.name));
            workload
                .check()
                .unwrap_or_else(|error| panic!("{}: {error}", case.name));
            workload
        });
        bencher.iter(|| workload.run());
    });
    group.finish();
}
