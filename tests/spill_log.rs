//! The spill log by itself: what is appended comes back, in order, whatever happens in between.

use std::sync::Arc;

use plimsoll::spill::{self, SpillConfig, SpillLog};
use plimsoll::{Price, SymbolId, Symbols, Tick};

fn tick(i: u64) -> Tick {
    Tick { sequence: i, ..Tick::trade(SymbolId::new(i as u32 % 7), i, Price::from_billionths(i as i64), i) }
}

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpillConfig {
        segment_bytes: 64 * 4096,
        budget_bytes: 1 << 30,
        free_space_floor_bytes: 0,
        ..SpillConfig::new(dir.path())
    };
    let symbols = Arc::new(Symbols::default());
    let mut next = 0;
    let mut expect = 0;
    for round in 0..5 {
        let (mut logs, report) = spill::open::<Tick>(&config, &symbols, 1).unwrap();
        assert_eq!((report.lost(), report.faults().count()), (0, 0), "{report:?}");
        assert_eq!(report.pending(), next - expect, "{round}");
        let log: &mut SpillLog<Tick> = &mut logs[0];
        assert_eq!(log.pending(), next - expect);
        for _ in 0..20_000 {
            while !log.append(&tick(next), next as u32 % 3) {
                log.refresh();
                std::thread::yield_now();
            }
            next += 1;
            if next % 100 == 0 {
                log.commit();
            }
        }
        log.commit();
        let until = if round == 4 { next } else { next - 5000 };
        while expect < until {
            log.replay((until - expect).min(100) as usize, |r| {
                assert_eq!(r.message, tick(expect));
                assert_eq!(r.missed, expect as u32 % 3);
                expect += 1;
            });
        }
        assert_eq!(log.take_lost(), 0);
        drop(logs);
        println!(
            "{round}: {:?}",
            std::fs::read_dir(dir.path().join("worker-0")).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
        );
    }
}
