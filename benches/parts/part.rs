//! One part: a call that is counted and timed. Knows nothing of what it calls.

use std::{hint::black_box, rc::Rc, time::Duration};

use allocation_counter::AllocationInfo;
use criterion::{Criterion, Throughput};

/// Long enough for caches and the clock rate to settle; these calls take microseconds.
const WARM_UP: Duration = Duration::from_millis(500);

/// The time that all samples of one part take together.
const MEASURED: Duration = Duration::from_secs(2);

/// A call under the name `group/name`.
#[derive(Clone)]
pub(crate) struct Part {
    group: &'static str,
    name: &'static str,
    bytes: Option<u64>,
    call: Rc<dyn Fn()>,
}

impl Part {
    /// What `call` returns is dropped within the measurement.
    pub(crate) fn new<T>(group: &'static str, name: &'static str, call: impl Fn() -> T + 'static) -> Self {
        let call = Rc::new(move || drop(black_box(call())));
        Self { group, name, bytes: None, call }
    }

    /// The bytes that one call works on, for the throughput.
    pub(crate) fn over(self, bytes: usize) -> Self {
        Self { bytes: u64::try_from(bytes).ok(), ..self }
    }

    /// Times it.
    pub(crate) fn measure(&self, criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group(self.group);
        if let Some(bytes) = self.bytes {
            group.throughput(Throughput::Bytes(bytes));
        }
        group.bench_function(self.name, |bencher| bencher.iter(|| (self.call)()));
        group.finish();
    }

    /// Counts one call. The call before it fills what is made once a process.
    fn allocations(&self) -> AllocationInfo {
        (self.call)();
        allocation_counter::measure(|| (self.call)())
    }
}

/// How long each part is measured.
pub(crate) fn criterion() -> Criterion {
    Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED)
}

/// The table of allocations, a line a part.
pub(crate) fn print_allocations(parts: &[Part]) {
    println!("{:<44} {:>7} {:>9} {:>9}", "allocations of one call", "calls", "bytes", "peak");
    for part in parts {
        let AllocationInfo { count_total, bytes_total, bytes_max, .. } = part.allocations();
        println!("{:<44} {count_total:>7} {bytes_total:>9} {bytes_max:>9}", format!("{}/{}", part.group, part.name));
    }
    println!();
}
