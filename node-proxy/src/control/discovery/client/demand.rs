//! Addresses that connections go to and that are asked for on first use: what every cell may ask, and what is known.
//!
//! Asking takes a short lock and never waits. There is a bound to what is asked for; what is not there is forgotten after a while,
//! so that no caller can fill it for good.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// A handle to ask by; all clones are of one table.
#[derive(Debug, Clone)]
pub struct Demand(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    ordered: Notify,
    answered: watch::Sender<u64>,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Not answered yet: [`Demand::answered`] changes when something is.
    Asked,
    /// It is somebody's, and the mesh in force has it.
    Present,
    /// It is somebody's, of whom nothing can be taken in: what stands for it is not known.
    Refused,
    /// It is nobody's; the control plane says so if it becomes somebody's.
    Absent,
    /// Too many are asked for.
    Full,
}

/// What the control plane is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::control::discovery) struct Orders {
    pub(in crate::control::discovery) want: Vec<IpAddr>,
    pub(in crate::control::discovery) unwant: Vec<IpAddr>,
}

/// The addresses, by time.
#[derive(Debug, Default)]
struct Table {
    /// With when each was asked for last.
    known: BTreeMap<IpAddr, (Answer, Instant)>,
    orders: Orders,
    most: usize,
}

impl Demand {
    /// A table with room for `most` addresses.
    pub fn new(most: usize) -> Self {
        let table = Mutex::new(Table { most, ..Table::default() });
        Self(Arc::new(Shared { table, ordered: Notify::new(), answered: watch::Sender::new(0) }))
    }

    /// What is known of an address; asks for it where nothing is. From any thread.
    pub fn want(&self, address: IpAddr) -> Answer {
        let (answer, is_new) = self.table().want(address.to_canonical(), Instant::now());
        if is_new {
            self.0.ordered.notify_one();
        }
        answer
    }

    /// Changes with every answer, when the mesh that has it is in force.
    pub fn answered(&self) -> watch::Receiver<u64> {
        self.0.answered.subscribe()
    }

    /// Comes back when there are orders, or it is time to look. May be dropped half-way.
    pub(in crate::control::discovery) async fn ordered(&self) {
        // Whichever comes first.
        let _ = tokio::time::timeout(LOOK, self.0.ordered.notified()).await;
    }

    /// What has been asked for since the last call, and what is not any more.
    pub(in crate::control::discovery) fn orders(&self) -> Orders {
        self.table().orders(Instant::now())
    }

    /// Notes answers, and says that there are some.
    pub(in crate::control::discovery) fn answer(&self, answers: &[(IpAddr, Answer)]) {
        if answers.is_empty() {
            return;
        }
        let mut table = self.table();
        for (address, answer) in answers {
            if let Some(known) = table.known.get_mut(address) {
                known.0 = *answer;
            }
        }
        drop(table);
        self.0.answered.send_modify(|generation| *generation += 1);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// What is known, and whether that is new to ask for.
    fn want(&mut self, address: IpAddr, now: Instant) -> (Answer, bool) {
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return (Answer::Absent, false);
        }
        if let Some((answer, used)) = self.known.get_mut(&address) {
            *used = now;
            return (*answer, false);
        }
        if self.known.len() >= self.most {
            self.forget(now);
        }
        if self.known.len() >= self.most {
            return (Answer::Full, false);
        }
        self.known.insert(address, (Answer::Asked, now));
        self.orders.want.push(address);
        (Answer::Asked, true)
    }

    fn orders(&mut self, now: Instant) -> Orders {
        self.forget(now);
        std::mem::take(&mut self.orders)
    }

    /// Forgets what is nobody's, and of which nobody has asked for a while.
    fn forget(&mut self, now: Instant) {
        let orders = &mut self.orders;
        self.known.retain(|address, (answer, used)| {
            let is_nobody = matches!(answer, Answer::Absent | Answer::Full);
            let is_over = is_nobody && now.saturating_duration_since(*used) >= ABSENT;
            if is_over {
                orders.unwant.push(*address);
            }
            !is_over
        });
    }
}

/// How long it is remembered that an address is nobody's, after somebody asked last.
const ABSENT: Duration = Duration::from_secs(30);
/// How often it is looked at what can be forgotten.
const LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn table(most: usize) -> Table {
        Table { most, ..Table::default() }
    }

    #[test]
    fn an_address_is_asked_for_once_whoever_asks() {
        let (mut table, now) = (table(9), Instant::now());
        assert_eq!(table.want(ip(1), now), (Answer::Asked, true));
        assert_eq!(table.want(ip(1), now), (Answer::Asked, false));
        assert_eq!(table.orders(now), Orders { want: vec![ip(1)], unwant: vec![] });
        assert_eq!(table.orders(now), Orders::default());
    }

    #[test]
    fn what_is_nobodys_is_remembered_while_it_is_asked_for_and_a_while_longer() {
        let (mut table, now) = (table(9), Instant::now());
        table.want(ip(1), now);
        table.orders(now);
        table.known.insert(ip(1), (Answer::Absent, now));
        assert_eq!(table.want(ip(1), now + ABSENT / 2), (Answer::Absent, false));
        assert_eq!(table.orders(now + ABSENT), Orders::default());
        assert_eq!(table.orders(now + 2 * ABSENT), Orders { want: vec![], unwant: vec![ip(1)] });
        assert!(table.known.is_empty());
        assert_eq!(table.want(ip(1), now + 2 * ABSENT), (Answer::Asked, true));
    }

    #[test]
    fn there_is_room_for_so_many_and_what_is_nobodys_makes_room() {
        let (mut table, now) = (table(2), Instant::now());
        table.want(ip(1), now);
        table.want(ip(2), now);
        assert_eq!(table.want(ip(3), now), (Answer::Full, false));
        assert_eq!(table.want(ip(2), now), (Answer::Asked, false), "what is asked for stays so");
        table.known.insert(ip(1), (Answer::Absent, now));
        table.known.insert(ip(2), (Answer::Present, now));
        assert_eq!(table.want(ip(3), now + ABSENT), (Answer::Asked, true));
        assert_eq!(
            table.want(ip(2), now + 2 * ABSENT),
            (Answer::Present, false),
            "what is there is not forgotten"
        );
    }

    #[test]
    fn nobody_is_asked_for_what_is_no_address_of_anybody() {
        let (mut table, now) = (table(9), Instant::now());
        for nobody in ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"] {
            assert_eq!(table.want(nobody.parse().unwrap(), now), (Answer::Absent, false), "{nobody}");
        }
        assert_eq!(table.orders(now), Orders::default());
    }

    #[tokio::test]
    async fn who_waits_is_told_when_there_is_an_answer() {
        let demand = Demand::new(9);
        let mut answered = demand.answered();
        assert_eq!(demand.want(ip(1)), Answer::Asked);
        demand.ordered().await;
        demand.clone().answer(&[(ip(1), Answer::Present), (ip(7), Answer::Present)]);
        answered.changed().await.unwrap();
        assert_eq!(demand.want(ip(1)), Answer::Present);
        assert_eq!(
            demand.want("::ffff:10.0.0.1".parse().unwrap()),
            Answer::Present,
            "it is the same address"
        );
        assert_eq!(demand.want(ip(7)), Answer::Asked, "what nobody asked for takes no room");
    }
}
