//! What tests of handoffs have in common: somebody who calls, threads as cells have them, and load that is checked.

use std::thread;

use config::{
    identity::{Identity, TrustDomain},
    model::Workload,
    name::{Name, Namespace, PodName, ServiceAccount, TenantId},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Somebody who calls.
pub(crate) fn workload() -> Workload {
    let namespace = Namespace::try_from("shop").unwrap();
    let identity = Identity {
        trust_domain: TrustDomain::default(),
        namespace: namespace.clone(),
        service_account: ServiceAccount::try_from("default").unwrap(),
    };
    let pod = PodName::new(namespace.clone(), Name::try_from("caller").unwrap());
    Workload::new(pod, TenantId::Namespace(namespace), identity)
}

/// Runs a future on a thread and an event loop of its own, as a cell would.
pub(super) fn cell<F: Future>(future: impl FnOnce() -> F + Send + 'static) -> thread::JoinHandle<F::Output>
where
    F::Output: Send + 'static,
{
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future())
    })
}

/// Writes and reads so many bytes at the same time, in pieces of changing sizes below `piece_bytes`, and checks every one.
pub(super) async fn both_ways(
    end: impl AsyncRead + AsyncWrite,
    (bytes, piece_bytes): (usize, usize),
    seed: u64,
) {
    let (mut reader, mut writer) = tokio::io::split(end);
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut sizes = fastrand::Rng::with_seed(seed + 7);
    let write = async {
        let mut sent = 0;
        while sent < bytes {
            let length = chance.usize(1..piece_bytes).min(bytes - sent);
            let piece: Vec<u8> = (sent..sent + length).map(|at| (at % 251) as u8).collect();
            writer.write_all(&piece).await.unwrap();
            sent += length;
        }
        writer.shutdown().await.unwrap();
    };
    let read = async {
        let (mut received, mut piece) = (0, vec![0; piece_bytes]);
        loop {
            let room = sizes.usize(1..piece_bytes);
            let length = reader.read(&mut piece[..room]).await.unwrap();
            if length == 0 {
                return received;
            }
            for byte in &piece[..length] {
                assert_eq!(*byte, (received % 251) as u8);
                received += 1;
            }
        }
    };
    let ((), received) = tokio::join!(write, read);
    assert_eq!(received, bytes);
}
