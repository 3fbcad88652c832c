//! That shares add up to no more than there is, whoever comes when and holds what.

use super::*;

#[test]
fn all_tenants_together_and_one_more_fit_into_the_limit() {
    for tenants in 1..100 {
        let all = share(262_144, tenants) as u64 * PER_CONNECTION * (tenants as u64 + 1);
        assert!(all + reserve(262_144) <= 262_144, "{tenants}");
    }
    assert_eq!(share(262_144, 3), 31_744);
}

#[test]
fn a_share_is_neither_nothing_nor_everything() {
    assert_eq!(share(0, 3), LEAST);
    assert_eq!(share(1024, 2), 128);
    assert_eq!(share(u64::MAX, 0), Limits::default().connections);
}

#[test]
fn a_newcomer_leaves_as_much_for_the_next_and_never_gets_nothing() {
    assert_eq!(first(100, 1000, 1), 100);
    assert_eq!(first(1000, 1000, 1), 500);
    assert_eq!(first(1000, 900, 2), 300);
    assert_eq!(first(1000, 0, 1), LEAST);
    assert_eq!(first(7, 0, 1), 7, "told so");
}

#[test]
fn a_cell_is_told_one_thing_at_a_time() {
    let heard = Given { bound: 10, holding: Holding { bound: 10, held: 3 } };
    assert_eq!(heard.next(6, 0), Some(6));
    assert_eq!(heard.next(20, 4), Some(14));
    assert_eq!(heard.next(10, 4), None);
    let deaf = Given { bound: 6, ..heard };
    assert_eq!((deaf.next(20, 100), deaf.committed()), (None, 10));
    let full = Given { bound: 6, holding: Holding { bound: 6, held: 9 } };
    assert_eq!(full.committed(), 9, "what it has it keeps");
}

/// A cell that takes all it may, or lets go, and hears of its bound some rounds late.
#[derive(Debug)]
struct Greedy {
    given: Given,
    bound: usize,
    held: usize,
    told: Option<(usize, u32)>,
}

impl Greedy {
    fn live(&mut self, rng: &mut fastrand::Rng) {
        self.held = match rng.u8(..4) {
            0 => rng.usize(..=self.held),
            _ => self.held.max(self.bound),
        };
        self.told = match self.told {
            Some((bound, 0)) => {
                self.bound = bound;
                None
            }
            Some((bound, rounds)) => Some((bound, rounds - 1)),
            None => None,
        };
        // It says so late, too; but what it says of its bound and of what it holds, it says together.
        if rng.bool() {
            self.given.holding = Holding { bound: self.bound, held: self.held };
        }
    }
}

#[test]
fn whoever_comes_and_goes_all_cells_together_hold_no_more_than_there_is() {
    let descriptors = 1 << 20;
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let left = |cells: &[Greedy]| {
            let committed = cells.iter().map(|cell| cell.given.committed());
            committed.fold(room(descriptors), usize::saturating_sub)
        };
        let mut cells: Vec<Greedy> = Vec::new();
        for round in 0..400 {
            if rng.u8(..16) == 0 && cells.len() < 8 {
                let bound = first(share(descriptors, cells.len() + 1), left(&cells), 1);
                let given = Given { bound, holding: Holding::default() };
                cells.push(Greedy { given, bound, held: 0, told: None });
            }
            if rng.u8(..64) == 0 && !cells.is_empty() {
                cells.swap_remove(rng.usize(..cells.len()));
            }
            let share = share(descriptors, cells.len());
            let mut spare = spare(left(&cells), share);
            for cell in &mut cells {
                if let Some(next) = cell.given.next(share, spare) {
                    let before = cell.given.committed();
                    cell.given.bound = next;
                    cell.told = Some((next, rng.u32(..5)));
                    spare -= cell.given.committed() - before;
                }
            }
            cells.iter_mut().for_each(|cell| cell.live(&mut rng));
            let held: usize = cells.iter().map(|cell| cell.held).sum();
            assert!(held <= room(descriptors), "seed {seed}, round {round}: {held} in {cells:?}");
        }
    }
}

#[test]
fn cells_that_let_go_all_come_to_their_share() {
    let (descriptors, mut cells) = (20_000, Vec::<Given>::new());
    let free = |cells: &[Given]| {
        cells.iter().fold(room(descriptors), |free, cell| free.saturating_sub(cell.committed()))
    };
    for tenants in 1..=10 {
        let bound = first(share(descriptors, tenants), free(&cells), 1);
        cells.push(Given { bound, holding: Holding { bound, held: bound } });
    }
    for _ in 0..20 {
        for nth in 0..cells.len() {
            let share = share(descriptors, 10);
            let spare = spare(free(&cells), share);
            if let Some(next) = cells[nth].next(share, spare) {
                cells[nth].bound = next;
            }
            cells[nth].holding = Holding { bound: cells[nth].bound, held: 0 };
        }
    }
    assert!(cells.iter().all(|cell| cell.bound == share(descriptors, 10)), "{cells:?}");
}
