//! What is asked for one by one: addresses that connections go to, on first use, by any cell; and names that what is known refers to.
//!
//! Asking takes a short lock and never waits. There is a bound to what is asked for; what is not there is forgotten after a while,
//! so that no caller can fill it for good.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// Of what a cache had, what nobody has asked for by this name since: it is let go when room is wanted.
    cached: BTreeSet<String>,
    /// How many of them each tenant has asked for first.
    shares: BTreeMap<TenantId, Share>,
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

/// How many names a tenant has asked for first.
#[derive(Debug, Default)]
struct Share {
    /// That are nobody's, or not answered yet.
    open: usize,
    /// That are somebody's.
    there: usize,
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

    /// What this asks for, once it is answered, and the mesh in force has it; [`Answer::Asked`] where it is not in so long.
    pub async fn settled(&self, ask: impl Fn(&Self) -> Answer, patience: Duration) -> Answer {
        tokio::time::timeout(patience, self.wait(ask)).await.unwrap_or(Answer::Asked)
    }

    /// The same, however long it takes; [`Answer::Asked`] where nobody answers any more.
    async fn wait(&self, ask: impl Fn(&Self) -> Answer) -> Answer {
        let mut answered = self.answered();
        loop {
            answered.mark_unchanged();
            let answer = ask(self);
            if answer != Answer::Asked || answered.changed().await.is_err() {
                return answer;
            }
        }
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

    /// Notes names of what a cache had: they take room as others do.
    pub(in crate::control::discovery) fn retain(&self, names: impl Iterator<Item = String>) {
        self.table().cached.extend(names);
    }

    /// Notes answers, and says that there are some.
    pub(in crate::control::discovery) fn answer(&self, answers: &[(String, Answer)]) {
        if answers.is_empty() {
            return;
        }
        let mut table = self.table();
        for (name, answer) in answers {
            table.answer(name, *answer);
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
            match demand.wait(|demand| demand.want_for(Some(&tenant), address)).await {
                Answer::Present => Found::Known,
                Answer::Absent => Found::Outside,
                Answer::Refused | Answer::Full | Answer::Asked => Found::Unanswered,
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
        self.cached.remove(name);
        let is_swept = self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP);
        if !(is_swept || self.has_room() && self.has_share(tenant)) {
            self.forget(now);
        }
        if !self.has_share(tenant) {
            return (Answer::Full, false);
        }
        if !self.has_room() {
            self.make_room();
        }
        if !self.has_room() {
            return (Answer::Full, false);
        }
        if let Some(tenant) = tenant {
            self.shares.entry(tenant.clone()).or_default().open += 1;
        }
        self.known.insert(name.to_owned(), Known { answer: Answer::Asked, used: now, by: tenant.cloned() });
        self.orders.want.push(name.to_owned());
        (Answer::Asked, true)
    }

    fn has_room(&self) -> bool {
        self.known.len() + self.cached.len() < self.most
    }

    /// Whether a tenant may ask for one more. What is there is worth more than a question, and is given half of the room.
    fn has_share(&self, tenant: Option<&TenantId>) -> bool {
        let Some(share) = tenant.and_then(|tenant| self.shares.get(tenant)) else { return true };
        share.open < (self.most / SHARES).max(1) && share.there < (self.most / 2).max(1)
    }

    /// Lets some of what the cache had go. It may be in use: who goes there asks for it again.
    fn make_room(&mut self) {
        for _ in 0..(self.most / LET_GO).max(1) {
            let Some(name) = self.cached.pop_first() else { return };
            self.orders.unwant.push(name);
        }
    }

    /// Takes in an answer, and counts it to whoever asked first.
    fn answer(&mut self, name: &str, answer: Answer) {
        let Some(known) = self.known.get_mut(name) else { return };
        let was_there = is_there(std::mem::replace(&mut known.answer, answer));
        let Some(share) = known.by.as_ref().and_then(|by| self.shares.get_mut(by)) else { return };
        match (was_there, is_there(answer)) {
            (false, true) => (share.open, share.there) = (share.open - 1, share.there + 1),
            (true, false) => (share.open, share.there) = (share.open + 1, share.there - 1),
            _ => {}
        }
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
                if let Some(share) = known.by.as_ref().and_then(|by| shares.get_mut(by)) {
                    share.open -= 1;
                }
            }
            !is_over
        });
        shares.retain(|_, share| share.open + share.there > 0);
    }
}

/// Whether it is somebody's.
fn is_there(answer: Answer) -> bool {
    matches!(answer, Answer::Present | Answer::Refused)
}

/// Of the room, one tenant's pods may ask for this part of what is not there, or not known yet.
const SHARES: usize = 8;
/// Where there is no room, this part of it is made of what a cache had.
const LET_GO: usize = 64;
/// How often it is looked at most what can be forgotten, while there is no room.
const SWEEP: Duration = Duration::from_secs(1);
/// How long it is remembered that an address is nobody's, after somebody asked last.
const ABSENT: Duration = Duration::from_secs(30);
/// How often it is looked at what can be forgotten.
const LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
