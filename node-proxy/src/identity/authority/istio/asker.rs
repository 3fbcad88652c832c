//! The asking thread: a few requests at a time, on one connection that goes when nobody asks.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use config::identity::Identity;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task,
    time::timeout,
};
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    AT_ONCE, Options, Order,
    chain::{self, Answer},
    connection,
    kept::Kept,
    wire::{CREATE, Request, Response, Struct},
};
use crate::identity::{
    authority::{AuthorityError, grpc},
    leaf::validity_of,
    trust::Roots,
};

/// A connection that nobody has asked by for so long goes: the next one may reach another of the service's replicas,
/// and sees a new root file.
const IDLE: Duration = Duration::from_secs(30);
/// How long an answer may take. A cell gives up at the same time.
const ANSWER: Duration = Duration::from_secs(10);

/// The asking thread's state.
pub(super) struct Asker {
    options: Arc<Options>,
    roots: watch::Sender<Option<Arc<Roots>>>,
    channel: RefCell<Option<Channel>>,
    kept: RefCell<Kept>,
}

impl Asker {
    pub(super) fn new(options: Options, roots: watch::Sender<Option<Arc<Roots>>>) -> Rc<Self> {
        Rc::new(Self {
            options: Arc::new(options),
            roots,
            channel: RefCell::default(),
            kept: RefCell::default(),
        })
    }

    /// Works until nobody is left to ask.
    pub(super) async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<Order>) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(order) = timeout(IDLE, inbox.recv()).await else {
                self.channel.take();
                continue;
            };
            let Some(order) = order else { return };
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let this = Rc::clone(&self);
            task::spawn_local(async move {
                this.answer(order).await;
                drop(place);
            });
        }
    }

    async fn answer(&self, order: Order) {
        let Order { identity, request, mut answer } = order;
        if answer.is_closed() {
            return;
        }
        let chain = tokio::select! {
            chain = timeout(ANSWER, self.ask(&identity, &request)) => chain.unwrap_or(Err(AuthorityError::Timeout)),
            // The cell has given up: its place is somebody else's.
            () = answer.closed() => Err(AuthorityError::Timeout),
        };
        if matches!(chain, Err(AuthorityError::Unavailable(_) | AuthorityError::Timeout)) {
            // It may hang; the next request makes another.
            self.channel.take();
        }
        // The cell may have ended meanwhile.
        let _ = answer.send(chain);
    }

    async fn ask(
        &self,
        identity: &Identity,
        request: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        let request = self.request(identity, request)?;
        let response = grpc::ask::<_, Response>(self.channel()?, CREATE, request).await;
        let response = response.map_err(|status| refusal(&status))?;
        let Answer { chain, roots } = chain::read(&response.cert_chain, identity, self.now())?;
        self.adopt(roots, &chain);
        Ok(chain)
    }

    fn request(&self, identity: &Identity, der: &[u8]) -> Result<tonic::Request<Request>, AuthorityError> {
        let mut request = tonic::Request::new(Request {
            csr: pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der)),
            validity_duration: i64::try_from(self.options.lifetime.as_secs()).unwrap_or(i64::MAX),
            metadata: Some(Struct::text(Struct::IMPERSONATED, identity.to_string())),
        });
        let cluster = MetadataValue::try_from(&self.options.cluster).map_err(|_| AuthorityError::Setup {
            problem: format!("{:?} is not the name of a cluster", self.options.cluster),
            remedy: "set --istio-cluster to what istiod calls this cluster".to_owned(),
        })?;
        request.metadata_mut().insert("clusterid", cluster);
        request.metadata_mut().insert("authorization", bearer(&self.options)?);
        Ok(request)
    }

    fn channel(&self) -> Result<Channel, AuthorityError> {
        let mut channel = self.channel.borrow_mut();
        if let Some(channel) = &*channel {
            return Ok(channel.clone());
        }
        Ok(channel.insert(connection::channel(&self.options)?).clone())
    }

    fn adopt(&self, answered: Roots, chain: &[CertificateDer<'_>]) {
        let now = self.now();
        let end =
            chain.first().and_then(|leaf| validity_of(leaf).ok()).map_or(now, |validity| validity.not_after);
        let new = self.kept.borrow_mut().with(answered, end, now);
        self.roots.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&new);
            if changed {
                tracing::info!(roots = new.certificates().len(), "the roots that are trusted have changed");
                *known = Some(Arc::new(new));
            }
            changed
        });
    }

    fn now(&self) -> UnixTime {
        self.options.clock.current_time().unwrap_or_else(UnixTime::now)
    }
}

/// The token of now, as gRPC carries it; never printed.
pub(super) fn bearer(options: &Options) -> Result<MetadataValue<Ascii>, AuthorityError> {
    grpc::bearer(
        &options.token,
        "mount a projected service account token with the audience istio-ca there, or name its file with --istio-token",
    )
}

/// What the service's status means.
fn refusal(status: &Status) -> AuthorityError {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => AuthorityError::Setup {
            problem: format!("the authority refuses this node's request ({})", status.message()),
            remedy: "istiod issues to a service account that is in its CA_TRUSTED_NODE_ACCOUNTS, whose token is bound to a \
                     pod, and only for service accounts with a pod on that pod's node (canopy control: --authority-accounts); just after a pod was made this passes"
                .to_owned(),
        },
        Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => {
            AuthorityError::Refused(status.message().to_owned())
        }
        _ => grpc::unavailable(status),
    }
}
