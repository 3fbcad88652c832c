//! One identity of a cell: its certificate, and what rustls takes of it, made once and shared until it changes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use config::{identity::Identity, model::Workload};
use rustls::{ClientConfig, ServerConfig, pki_types::UnixTime};
use tokio::sync::{Notify, watch};

use crate::{
    forest::describe::CertificateDescription,
    identity::{
        authority::Wanted,
        certificate::Certificate,
        tls,
        trust::{Roots, Trust},
        verify::Anchor,
    },
};

/// Sets of allowed peers of which the client's end is kept. One that calls more kinds of peers makes them again.
const CLIENTS: usize = 256;

/// One identity.
pub(super) struct Holding {
    identity: Identity,
    /// Of those who hold it.
    workloads: watch::Sender<Vec<Arc<Workload>>>,
    holders: Cell<usize>,
    certificate: RefCell<Option<Rc<Certificate>>>,
    /// What the certificate rests on.
    anchor: RefCell<Option<Anchor>>,
    problem: RefCell<Option<String>>,
    server: RefCell<Option<Arc<ServerConfig>>>,
    clients: RefCell<HashMap<Box<[Identity]>, Arc<ClientConfig>>>,
    arrived: Notify,
    /// Nobody holds it any more.
    released: Notify,
}

/// What a new certificate changed besides itself.
pub(super) struct Adopted {
    /// It brought other roots than the last one.
    pub(super) trust: bool,
    /// It rests on another root than the last one.
    pub(super) authority: bool,
}

impl Holding {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            workloads: watch::Sender::default(),
            holders: Cell::default(),
            certificate: RefCell::default(),
            anchor: RefCell::default(),
            problem: RefCell::default(),
            server: RefCell::default(),
            clients: RefCell::default(),
            arrived: Notify::new(),
            released: Notify::new(),
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted { identity: self.identity.clone(), workloads: self.workloads.subscribe() }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn hold(&self, workload: Option<&Arc<Workload>>) {
        self.holders.set(self.holders.get() + 1);
        if let Some(workload) = workload {
            self.workloads.send_modify(|workloads| workloads.push(Arc::clone(workload)));
        }
    }

    /// The workload of one who holds it is known to be another by now.
    pub(super) fn replace(&self, before: &Arc<Workload>, now: &Arc<Workload>) {
        self.workloads.send_if_modified(|workloads| {
            let known = workloads.iter_mut().find(|workload| Arc::ptr_eq(workload, before));
            known.map(|known| *known = Arc::clone(now)).is_some()
        });
    }

    /// Says whether nobody holds it any more.
    pub(super) fn release(&self, workload: Option<&Arc<Workload>>) -> bool {
        self.holders.set(self.holders.get() - 1);
        self.workloads.send_if_modified(|workloads| {
            let at =
                workload.and_then(|gone| workloads.iter().position(|workload| Arc::ptr_eq(workload, gone)));
            at.map(|at| workloads.swap_remove(at)).is_some()
        });
        if self.holders.get() == 0 {
            self.released.notify_one();
        }
        self.holders.get() == 0
    }

    /// Comes back when nobody holds it any more. For its keeper alone.
    pub(super) async fn released(&self) {
        while self.holders.get() > 0 {
            self.released.notified().await;
        }
    }

    /// Speaks with this certificate from now on, which rests on `anchor`.
    pub(super) fn adopt(&self, certificate: Certificate, anchor: Anchor) -> Adopted {
        let roots = certificate.roots().map(Arc::clone);
        let before = self.certificate.replace(Some(Rc::new(certificate)));
        let anchored = self.anchor.replace(Some(anchor));
        self.problem.take();
        self.forget_configs();
        self.arrived.notify_waiters();
        Adopted {
            trust: before.is_some_and(|before| before.roots() != roots.as_ref()),
            authority: anchored.is_some() && anchored != *self.anchor.borrow(),
        }
    }

    pub(super) fn failed(&self, problem: String) {
        self.problem.replace(Some(problem));
    }

    /// Trust has changed: connections from now on are judged by the new one.
    pub(super) fn forget_configs(&self) {
        self.server.take();
        self.clients.take();
    }

    pub(super) fn has_certificate(&self) -> bool {
        self.certificate.borrow().is_some()
    }

    /// Comes back when there is a certificate.
    pub(super) async fn arrival(&self) {
        while !self.has_certificate() {
            self.arrived.notified().await;
        }
    }

    pub(super) fn expires(&self) -> Option<UnixTime> {
        self.certificate.borrow().as_ref().map(|certificate| certificate.validity().not_after)
    }

    pub(super) fn roots(&self) -> Option<Arc<Roots>> {
        self.certificate.borrow().as_ref().and_then(|certificate| certificate.roots().map(Arc::clone))
    }

    pub(super) fn problem(&self) -> String {
        self.problem.borrow().clone().unwrap_or_else(|| "the authority has not answered".to_owned())
    }

    pub(super) fn client(
        &self,
        parts: &tls::Parts,
        trust: Trust,
        allowed: &[Identity],
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.clients.borrow().get(allowed) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(tls::client(parts, &*self.certificate()?, trust, allowed)?);
        let mut clients = self.clients.borrow_mut();
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(allowed.into(), Arc::clone(&config));
        Ok(config)
    }

    pub(super) fn server(
        &self,
        parts: &tls::Parts,
        trust: Trust,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        if let Some(config) = &*self.server.borrow() {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(tls::server(parts, &*self.certificate()?, trust)?);
        self.server.replace(Some(Arc::clone(&config)));
        Ok(config)
    }

    /// Nothing secret.
    pub(super) fn describe(&self, authority: &str) -> CertificateDescription {
        let certificate = self.certificate.borrow();
        let validity = certificate.as_ref().map(|certificate| certificate.validity());
        CertificateDescription {
            authority: authority.to_owned(),
            serial: certificate.as_ref().map(|certificate| certificate.serial().to_owned()),
            not_before: validity.map(|validity| validity.not_before.as_secs()),
            not_after: validity.map(|validity| validity.not_after.as_secs()),
            problem: self.problem.borrow().clone(),
        }
    }

    fn certificate(&self) -> Result<Rc<Certificate>, rustls::Error> {
        let certificate = self.certificate.borrow().as_ref().map(Rc::clone);
        certificate.ok_or_else(|| rustls::Error::General("there is no certificate".to_owned()))
    }
}
