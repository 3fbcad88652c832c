//! What is asked for one by one: addresses that connections go to, on first use, by any cell; and names that what is known refers to.
//!
//! Asking takes a short lock and never waits. There is a bound to what is asked for; what is not there is forgotten after a while,
//! so that no caller can fill it for good.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use config::name::TenantId;
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::connection::name_of;
use crate::cell::{Find, Found, finder::is_nobodys};

/// A handle to ask by; all clones are of one table.
#[derive(Debug, Clone)]
pub struct Demand(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Of which the addresses are.
    network: String,
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
    pub(in crate::control::discovery) want: Vec<String>,
    pub(in crate::control::discovery) unwant: Vec<String>,
}

/// What was asked for, by the names of resources and their aliases.
#[derive(Debug, Default)]
struct Table {
    known: BTreeMap<String, Known>,
    orders: Orders,
    most: usize,
    /// How many of them each tenant has asked for first.
    shares: BTreeMap<TenantId, usize>,
    /// When it was last looked what can be forgotten.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    answer: Answer,
    /// When it was asked for last.
    used: Instant,
    /// Who asked first, if that was a tenant's pod.
    by: Option<TenantId>,
}

impl Demand {
    /// A table with room for `most` names, of addresses of a network.
    pub fn new(most: usize, network: &str) -> Self {
        let table = Mutex::new(Table { most, ..Table::default() });
        let network = network.to_owned();
        Self(Arc::new(Shared { network, table, ordered: Notify::new(), answered: watch::Sender::new(0) }))
    }

    /// What is known of an address; asks for it where nothing is. From any thread.
    pub fn want(&self, address: IpAddr) -> Answer {
        self.want_for(None, address)
    }

    /// The same of an address that a tenant's pod has dialled: each tenant has its share of the room.
    fn want_for(&self, tenant: Option<&TenantId>, address: IpAddr) -> Answer {
        if is_nobodys(address) {
            return Answer::Absent;
        }
        self.order(tenant, &name_of(&self.0.network, address.to_canonical()))
    }

    /// What is known of what has this name; asks for it where nothing is.
    pub fn want_name(&self, name: &str) -> Answer {
        self.order(None, name)
    }

    fn order(&self, tenant: Option<&TenantId>, name: &str) -> Answer {
        let (answer, is_new) = self.table().want(tenant, name, Instant::now());
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
    pub(in crate::control::discovery) fn answer(&self, answers: &[(String, Answer)]) {
        if answers.is_empty() {
            return;
        }
        let mut table = self.table();
        for (name, answer) in answers {
            if let Some(known) = table.known.get_mut(name) {
                known.answer = *answer;
            }
        }
        drop(table);
        self.0.answered.send_modify(|generation| *generation += 1);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Find for Demand {
    fn find(&self, tenant: &TenantId, address: IpAddr) -> BoxFuture<'static, Found> {
        let (demand, tenant) = (self.clone(), tenant.clone());
        Box::pin(async move {
            let mut answered = demand.answered();
            loop {
                match demand.want_for(Some(&tenant), address) {
                    Answer::Present => return Found::Known,
                    Answer::Absent => return Found::Outside,
                    Answer::Refused | Answer::Full => return Found::Unanswered,
                    Answer::Asked => {}
                }
                if answered.changed().await.is_err() {
                    return Found::Unanswered;
                }
            }
        })
    }
}

impl Table {
    /// What is known, and whether that is new to ask for.
    fn want(&mut self, tenant: Option<&TenantId>, name: &str, now: Instant) -> (Answer, bool) {
        if let Some(known) = self.known.get_mut(name) {
            known.used = now;
            if known.answer != Answer::Full {
                return (known.answer, false);
            }
            // There may be room by now.
            known.answer = Answer::Asked;
            self.orders.want.push(name.to_owned());
            return (Answer::Asked, true);
        }
        let has_share = |table: &Self| {
            let share = (table.most / SHARES).max(1);
            tenant.is_none_or(|tenant| table.shares.get(tenant).is_none_or(|asked| *asked < share))
        };
        let has_room = |table: &Self| table.known.len() < table.most && has_share(table);
        let is_swept = self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP);
        if !has_room(self) && !is_swept {
            self.forget(now);
        }
        if !has_room(self) {
            return (Answer::Full, false);
        }
        if let Some(tenant) = tenant {
            *self.shares.entry(tenant.clone()).or_default() += 1;
        }
        self.known.insert(name.to_owned(), Known { answer: Answer::Asked, used: now, by: tenant.cloned() });
        self.orders.want.push(name.to_owned());
        (Answer::Asked, true)
    }

    fn orders(&mut self, now: Instant) -> Orders {
        self.forget(now);
        std::mem::take(&mut self.orders)
    }

    /// Forgets what is nobody's, and of which nobody has asked for a while.
    fn forget(&mut self, now: Instant) {
        self.swept = Some(now);
        let (orders, shares) = (&mut self.orders, &mut self.shares);
        self.known.retain(|name, known| {
            let is_nobody = matches!(known.answer, Answer::Absent | Answer::Full);
            let is_over = is_nobody && now.saturating_duration_since(known.used) >= ABSENT;
            if is_over {
                orders.unwant.push(name.clone());
                if let Some(asked) = known.by.as_ref().and_then(|by| shares.get_mut(by)) {
                    *asked -= 1;
                }
            }
            !is_over
        });
        shares.retain(|_, asked| *asked > 0);
    }
}

/// Of the room, one tenant's pods may ask for this part.
const SHARES: usize = 8;
/// How often it is looked at most what can be forgotten, while there is no room.
const SWEEP: Duration = Duration::from_secs(1);
/// How long it is remembered that an address is nobody's, after somebody asked last.
const ABSENT: Duration = Duration::from_secs(30);
/// How often it is looked at what can be forgotten.
const LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        TenantId::Namespace("shop".try_into().unwrap())
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn name(last: u8) -> String {
        name_of("", ip(last))
    }

    fn known(answer: Answer, used: Instant) -> Known {
        Known { answer, used, by: None }
    }

    fn table(most: usize) -> Table {
        Table { most, ..Table::default() }
    }

    #[test]
    fn an_address_is_asked_for_once_whoever_asks() {
        let (mut table, now) = (table(9), Instant::now());
        assert_eq!(table.want(None, &name(1), now), (Answer::Asked, true));
        assert_eq!(table.want(None, &name(1), now), (Answer::Asked, false));
        assert_eq!(table.orders(now), Orders { want: vec![name(1)], unwant: vec![] });
        assert_eq!(table.orders(now), Orders::default());
    }

    #[test]
    fn what_is_nobodys_is_remembered_while_it_is_asked_for_and_a_while_longer() {
        let (mut table, now) = (table(9), Instant::now());
        table.want(None, &name(1), now);
        table.orders(now);
        table.known.insert(name(1), known(Answer::Absent, now));
        assert_eq!(table.want(None, &name(1), now + ABSENT / 2), (Answer::Absent, false));
        assert_eq!(table.orders(now + ABSENT), Orders::default());
        assert_eq!(table.orders(now + 2 * ABSENT), Orders { want: vec![], unwant: vec![name(1)] });
        assert!(table.known.is_empty());
        assert_eq!(table.want(None, &name(1), now + 2 * ABSENT), (Answer::Asked, true));
    }

    #[test]
    fn there_is_room_for_so_many_and_what_is_nobodys_makes_room() {
        let (mut table, now) = (table(2), Instant::now());
        table.want(None, &name(1), now);
        table.want(None, &name(2), now);
        assert_eq!(table.want(None, &name(3), now), (Answer::Full, false));
        assert_eq!(table.want(None, &name(2), now), (Answer::Asked, false), "what is asked for stays so");
        table.known.insert(name(1), known(Answer::Absent, now));
        table.known.insert(name(2), known(Answer::Present, now));
        assert_eq!(table.want(None, &name(3), now + ABSENT), (Answer::Asked, true));
        assert_eq!(
            table.want(None, &name(2), now + 2 * ABSENT),
            (Answer::Present, false),
            "what is there is not forgotten"
        );
    }

    #[test]
    fn nobody_is_asked_for_what_is_no_address_of_anybody() {
        let demand = Demand::new(9, "");
        for nobody in ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"] {
            assert_eq!(demand.want(nobody.parse().unwrap()), Answer::Absent, "{nobody}");
        }
        assert_eq!(demand.orders(), Orders::default());
    }

    #[test]
    fn an_address_is_asked_for_as_one_of_the_nodes_own_network() {
        let demand = Demand::new(9, "lan");
        demand.want(ip(1));
        assert_eq!(demand.orders().want, ["lan/10.0.0.1"]);
    }

    #[tokio::test]
    async fn a_cell_that_asks_hears_what_the_control_plane_says() {
        for (answer, found) in [
            (Answer::Present, Found::Known),
            (Answer::Absent, Found::Outside),
            (Answer::Refused, Found::Unanswered),
        ] {
            let demand = Demand::new(9, "");
            let asked = tokio::spawn(demand.find(&tenant(), ip(1)));
            demand.ordered().await;
            demand.answer(&[(name(1), answer)]);
            assert_eq!(asked.await.unwrap(), found);
        }
        assert_eq!(Demand::new(0, "").find(&tenant(), ip(1)).await, Found::Unanswered, "there is no room");
    }

    #[tokio::test]
    async fn who_waits_is_told_when_there_is_an_answer() {
        let demand = Demand::new(9, "");
        let mut answered = demand.answered();
        assert_eq!(demand.want(ip(1)), Answer::Asked);
        demand.ordered().await;
        demand.clone().answer(&[(name(1), Answer::Present), (name(7), Answer::Present)]);
        answered.changed().await.unwrap();
        assert_eq!(demand.want(ip(1)), Answer::Present);
        assert_eq!(
            demand.want("::ffff:10.0.0.1".parse().unwrap()),
            Answer::Present,
            "it is the same address"
        );
        assert_eq!(demand.want(ip(7)), Answer::Asked, "what nobody asked for takes no room");
    }

    #[test]
    fn a_tenant_that_dials_everything_leaves_room_for_the_others() {
        let (mut table, now, greedy) = (table(SHARES), Instant::now(), tenant());
        assert_eq!(table.want(Some(&greedy), &name(1), now), (Answer::Asked, true));
        assert_eq!(table.want(Some(&greedy), &name(2), now), (Answer::Full, false), "that is its share");
        let other = TenantId::Namespace("bank".try_into().unwrap());
        assert_eq!(table.want(Some(&other), &name(2), now), (Answer::Asked, true));
        assert_eq!(
            table.want(Some(&greedy), &name(2), now),
            (Answer::Asked, false),
            "who asked is all the same"
        );
        table.known.insert(name(1), Known { answer: Answer::Absent, used: now, by: Some(greedy.clone()) });
        let later = now + ABSENT;
        assert_eq!(table.want(Some(&greedy), &name(3), later), (Answer::Asked, true), "it is given back");
    }
}
